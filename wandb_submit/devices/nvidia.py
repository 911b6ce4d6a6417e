"""NVIDIA's GPUs and MIG instances, as the driver's management library (NVML) tells them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from wandb_submit.devices.cores import cores_near
from wandb_submit.devices.gpu import Gpu


@contextlib.contextmanager
def opened() -> Iterator[bool]:
    """Opens NVML for a while; tells whether there is a driver to ask. What is opened within costs little."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def gpus(sys: Path) -> list[Gpu]:
    """The devices that the driver knows, in PCI bus order; none where there is no driver.

    Args:
        sys: the folder that tells which cores are near a GPU.
    """
    import pynvml

    with opened() as there:
        count = pynvml.nvmlDeviceGetCount() if there else 0
        return [gpu for index in range(count) for gpu in _devices_of(index, sys)]


def _devices_of(index: int, sys: Path) -> list[Gpu]:
    """A GPU, or its MIG instances where it is in MIG mode; nothing for one that is lost, or not for us to use."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid, model = _text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        return []
    near = cores_near(_pci_address(handle), sys)
    if not _is_in_mig_mode(handle):
        return [Gpu(token=str(index), uuid=uuid, model=model, names=(str(index),), cores=near)]
    return list(_instances(handle, index=index, uuid=uuid, cores=near))


def _instances(handle: object, *, index: int, uuid: str, cores: tuple[int, ...]) -> Iterator[Gpu]:
    """The MIG instances of a GPU: not itself, since CUDA would take the first of them for it.

    Before driver 470 an instance had no UUID, but was named after its GPU, which CUDA still understands
    (https://docs.nvidia.com/datacenter/tesla/mig-user-guide/#cuda-visible-devices).
    """
    import pynvml

    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            own, model = _text(pynvml.nvmlDeviceGetUUID(instance)), _text(pynvml.nvmlDeviceGetName(instance))
            ids = pynvml.nvmlDeviceGetGpuInstanceId(instance), pynvml.nvmlDeviceGetComputeInstanceId(instance)
        except pynvml.NVMLError:  # there may be gaps
            continue
        names = (str(index), uuid, f"MIG-{uuid}/{ids[0]}/{ids[1]}")
        yield Gpu(token=own, uuid=own, model=model, parent=uuid, names=names, cores=cores)


def _is_in_mig_mode(handle: object) -> bool:
    import pynvml

    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
    except pynvml.NVMLError:  # most GPUs cannot do it
        return False


def _pci_address(handle: object) -> str:
    """Where the GPU is, as sysfs writes it: NVML's domains have eight digits, and capital letters."""
    import pynvml

    try:
        return _text(pynvml.nvmlDeviceGetPciInfo(handle).busId).lower()[-len("0000:00:00.0") :]
    except pynvml.NVMLError:
        return ""


def _text(value: str | bytes) -> str:
    """NVML's bindings answered with bytes before version 12."""
    return value.decode() if isinstance(value, bytes) else value
