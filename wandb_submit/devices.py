"""What this machine has: its GPUs and the cores that we may use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        token: its name in `CUDA_VISIBLE_DEVICES`: an index in PCI bus order, or a UUID.
        uuid: its UUID, where the driver tells; locks go by it, so that an index and a UUID are one device.
        model: its product name, where the driver tells.
    """

    token: str
    uuid: str | None = None
    model: str | None = None

    @property
    def lock_name(self) -> str:
        """What identifies the device on this machine."""
        return f"gpu-{self.uuid or self.token}"


def visible_gpus(environ: Mapping[str, str] | None = None) -> list[Gpu]:
    """Lists the GPUs that this process may use.

    In a Slurm job they are the job's: also where Slurm sets no `CUDA_VISIBLE_DEVICES`, as in jobs without GPUs.

    `CUDA_VISIBLE_DEVICES` limits the driver's list, and is enough where there is no driver to ask. Empty, or -1,
    means none, as it does to CUDA
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#cuda-environment-variables).
    """
    variables = os.environ if environ is None else environ
    named = variables.get("CUDA_VISIBLE_DEVICES")
    if named is None and on_allocated_node(variables):
        named = variables.get("SLURM_STEP_GPUS") or variables.get("SLURM_JOB_GPUS") or ""
    driver = _driver_gpus()
    if named is None:
        return driver
    by_name = {gpu.token: gpu for gpu in driver} | {gpu.uuid: gpu for gpu in driver if gpu.uuid}
    gpus: list[Gpu] = []
    for part in named.split(","):
        token = part.strip()
        if not token or token.startswith("-"):
            break  # CUDA ignores what stands behind an invalid entry, too
        known = by_name.get(token) or _abbreviated(token, driver)
        if driver and known is None and token.isdecimal():
            break
        if token not in (gpu.token for gpu in gpus):
            gpus.append(Gpu(token=token, uuid=known.uuid if known else None, model=known.model if known else None))
    return gpus


def _abbreviated(token: str, driver: list[Gpu]) -> Gpu | None:
    """The GPU whose UUID begins so: CUDA takes the beginning of one for it where that is unambiguous."""
    matching = [gpu for gpu in driver if token.startswith("GPU-") and (gpu.uuid or "").startswith(token)]
    return matching[0] if len(matching) == 1 else None


def _driver_gpus() -> list[Gpu]:
    """The GPUs that the NVIDIA driver knows, in PCI bus order; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        found = [_driver_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [gpu for gpu in found if gpu is not None]
    finally:
        pynvml.nvmlShutdown()


def _driver_gpu(index: int) -> Gpu | None:
    """One GPU of the driver's; `None` for one that is lost, or not for us to use."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid, model = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
    except pynvml.NVMLError:
        return None
    return Gpu(token=str(index), uuid=_text(uuid), model=_text(model))


def _text(value: str | bytes) -> str:
    """NVML's bindings answered with bytes before version 12."""
    return value.decode() if isinstance(value, bytes) else value


def usable_cores(environ: Mapping[str, str] | None = None) -> list[int]:
    """The cores that this process may run on, as its affinity (cgroup, Slurm, taskset) leaves them.

    In a Slurm job no more than the job has, where the cluster does not bind jobs to their cores: which of them is
    then for us to choose, and differs between the jobs of a node.
    """
    variables = os.environ if environ is None else environ
    cores = sorted(os.sched_getaffinity(0))
    own, job = variables.get("SLURM_CPUS_ON_NODE", ""), variables.get("SLURM_JOB_ID", "")
    if not on_allocated_node(variables) or not own.isdecimal() or not job.isdecimal() or int(own) >= len(cores):
        return cores
    first = int(job) * int(own) % len(cores)
    return sorted((cores * 2)[first : first + max(int(own), 1)])


def on_allocated_node(environ: Mapping[str, str]) -> bool:
    """Whether this process is part of a Slurm job; a shell of `salloc` on the login node has a job but is not."""
    return "SLURM_JOB_ID" in environ and "SLURMD_NODENAME" in environ
