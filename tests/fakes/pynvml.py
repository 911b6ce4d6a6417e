"""An NVML that tells what a JSON file says, asked anew each time: put this folder on the path before the real one.

`$FAKE_NVML` names the file: a list of GPUs, each with `uuid`, and perhaps `name`, `pci`, `lost`, `compute`, `mps`
(numbers of processes) and, in MIG mode, `mig`: instances with `uuid`, `gi`, `ci` and `compute`, or null for a gap.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_DEVICE_MIG_ENABLE = 1


class NVMLError(Exception):
    pass


class Library:
    opened = 0


def nvmlInit() -> None:
    if not _machine():
        raise NVMLError("no driver")
    Library.opened += 1


def nvmlShutdown() -> None:
    Library.opened -= 1


def _machine() -> list[dict[str, Any]]:
    path = os.environ.get("FAKE_NVML")
    return json.loads(Path(path).read_text()) if path else []


def _all() -> list[dict[str, Any]]:
    assert Library.opened > 0, "NVML is asked before it is opened"
    return _machine()


def _one(handle: tuple[int, ...]) -> dict[str, Any]:
    gpu = _all()[handle[0]]
    return gpu["mig"][handle[1]] if len(handle) == 2 else gpu


def nvmlDeviceGetCount() -> int:
    return len(_all())


def nvmlDeviceGetHandleByIndex(index: int) -> tuple[int, ...]:
    if _all()[index].get("lost"):
        raise NVMLError("GPU is lost")
    return (index,)


def nvmlDeviceGetHandleByUUID(uuid: str) -> tuple[int, ...]:
    for index, gpu in enumerate(_all()):
        if gpu["uuid"] == uuid:
            return (index,)
        for place, instance in enumerate(gpu.get("mig") or ()):
            if instance and instance["uuid"] == uuid:
                return (index, place)
    raise NVMLError("not found")


def nvmlDeviceGetUUID(handle: tuple[int, ...]) -> str:
    return _one(handle)["uuid"]


def nvmlDeviceGetName(handle: tuple[int, ...]) -> bytes:
    return _one(handle).get("name", "NVIDIA A100").encode()  # as bindings before version 12 answered


def nvmlDeviceGetPciInfo(handle: tuple[int, ...]) -> SimpleNamespace:
    if "pci" not in _one(handle):
        raise NVMLError("not supported")
    return SimpleNamespace(busId=_one(handle)["pci"])


def nvmlDeviceGetMigMode(handle: tuple[int, ...]) -> list[int]:
    if "mig" not in _one(handle):
        raise NVMLError("not supported")
    return [int(_one(handle)["mig"] is not None)] * 2


def nvmlDeviceGetMaxMigDeviceCount(handle: tuple[int, ...]) -> int:
    return len(_one(handle)["mig"])


def nvmlDeviceGetMigDeviceHandleByIndex(handle: tuple[int, ...], place: int) -> tuple[int, ...]:
    if _one(handle)["mig"][place] is None:
        raise NVMLError("not found")
    return (*handle, place)


def nvmlDeviceGetGpuInstanceId(handle: tuple[int, ...]) -> int:
    return _one(handle)["gi"]


def nvmlDeviceGetComputeInstanceId(handle: tuple[int, ...]) -> int:
    return _one(handle)["ci"]


def nvmlDeviceGetComputeRunningProcesses(handle: tuple[int, ...]) -> list[SimpleNamespace]:
    return _processes(handle, "compute")


def nvmlDeviceGetMPSComputeRunningProcesses(handle: tuple[int, ...]) -> list[SimpleNamespace]:
    return _processes(handle, "mps")


def _processes(handle: tuple[int, ...], kind: str) -> list[SimpleNamespace]:
    if kind not in _one(handle):
        raise NVMLError("not supported")
    return [SimpleNamespace(pid=pid) for pid in _one(handle)[kind]]
