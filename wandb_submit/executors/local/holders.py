"""Which submissions hold locks of devices, for those that wait for them.

The kernel knows which process has taken a lock, and a scheduler's command line names its submission to all users, so
that nothing has to be written down that could outlive its truth. Where the kernel does not tell (sandboxes, other
containers, users whose processes are hidden), or a scheduler has died before its tasks, nobody is named.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from wandb_submit.devices.strangers import owner_of
from wandb_submit.executors.local.locks import lock_folder
from wandb_submit.executors.local.state import KEEPER, SchedulerFiles

_LOCKS = Path("/proc/locks")


def holders_of(names: Collection[str], *, asker: SchedulerFiles) -> str:
    """The submissions that hold any of these locks, in words; those elsewhere with their users and folders.

    Args:
        names: the locks' files.
        asker: whose words it will be.
    """
    keys = set(_keys(names))
    pids = sorted(pid for pid, key in _taken() if key in keys)
    found = (_submission(Path("/proc", str(pid)), asker) for pid in pids)
    return " and ".join(dict.fromkeys(words for words in found if words))


def _keys(names: Collection[str]) -> Iterator[str]:
    """How these files are called in /proc/locks."""
    for name in names:
        with contextlib.suppress(OSError):
            status = (lock_folder() / name).stat()
            yield f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def _taken() -> Iterator[tuple[int, str]]:
    """Who has taken which `flock`, by proc_locks(5)."""
    try:
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if fields[1] == "FLOCK":  # "->" there tells of one that waits
            yield int(fields[4]), fields[5]


def _submission(process: Path, asker: SchedulerFiles) -> str | None:
    """The submission whose scheduler a process is; `None` if it is none."""
    try:
        argv = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
        user = owner_of(process)
    except OSError:  # it has ended
        return None
    if KEEPER not in argv:
        return None
    files = SchedulerFiles(Path(argv[argv.index(KEEPER) + 1]))
    words = f"submission {files.prefix}"
    if files.home != asker.home:
        words += f" of {user} ({files.jobs})"
    # Another user names his processes as he likes, and a terminal does what control characters tell it.
    return words if words.isprintable() else None
