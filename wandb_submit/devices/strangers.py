"""Who computes on a GPU, for those that look before they take one.

Whoever holds the lock of a GPU and finds a process on it has found a stranger's: our tasks' hold their GPUs' locks, and
what they have left behind is killed before these are freed.
"""

from __future__ import annotations

import contextlib
import pwd
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from wandb_submit.devices import nvidia
from wandb_submit.devices.gpu import Gpu
from wandb_submit.devices.variables import CUDA

_MPS_SERVER = "nvidia-cuda-mps"  # computes nothing, but stays on its GPUs

# Says who computes on a GPU, in words; `None` for nobody, or where nobody tells.
Look: TypeAlias = Callable[[Gpu], "str | None"]
Watch: TypeAlias = Callable[[], AbstractContextManager[Look]]


def watch_for(gpus: Iterable[Gpu], variable: str) -> Watch:
    """What looks at these GPUs, which that variable shows; nobody looks at AMD's, or where no driver tells of them."""
    return _watch_nvidia if variable == CUDA and any(gpu.uuid for gpu in gpus) else watch_nobody


@contextlib.contextmanager
def _watch_nvidia() -> Iterator[Look]:
    """Opens NVML for as many looks as are needed."""
    with nvidia.opened() as there:
        yield _computing if there else _nobody


def watch_nobody() -> AbstractContextManager[Look]:
    """Does not look."""
    return contextlib.nullcontext(_nobody)


def _nobody(gpu: Gpu) -> str | None:
    return None


def _computing(gpu: Gpu) -> str | None:
    """The processes that compute on a GPU, also through MPS; a desktop that draws on it does not."""
    import pynvml

    if gpu.uuid is None:
        return None
    asked = (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetMPSComputeRunningProcesses)
    pids: set[int] = set()
    for ask in asked:
        with contextlib.suppress(pynvml.NVMLError):  # a GPU, or a system, that does not tell
            pids |= {process.pid for process in ask(pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid))}
    return ", ".join(words for pid in sorted(pids) if not (words := _words(pid)).startswith(_MPS_SERVER)) or None


def _words(pid: int) -> str:
    """A process, for people; one in another container has a number that means nothing here, or a stranger's."""
    process = Path("/proc", str(pid))
    try:
        return f"{(process / 'comm').read_text().strip()} (process {pid} of {owner_of(process)})"
    except OSError:
        return f"process {pid}"


def owner_of(process: Path) -> str:
    """The user of a process, for people.

    Args:
        process: its folder in /proc.

    Raises:
        OSError: if it has ended.
    """
    owner = process.stat().st_uid
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:  # a user of another container
        return f"user {owner}"
