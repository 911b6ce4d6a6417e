"""What an ended task has left running out of its reach: daemons of its trials, which have left their process group.

Slurm kills them with the task's cgroup. Here they are known by the environment that they have inherited.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from wandb_submit.agent.runs.members import is_wandbs_own
from wandb_submit.system.process import JOB

_log = logging.getLogger(__name__)
# One that forks faster than it is found is given up, with a word.
_ROUNDS = 20


def kill_leftovers(job: str) -> None:
    """Kills all processes that a task has started, itself excepted; for its end.

    wandb-core is left to send what it has: it ends by itself when its run's process has.

    Args:
        job: the task, as it is named in the environment of what it starts.
    """
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        found = set(_started_by(job)) - killed
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
    _log.warning("task %s has left processes that start others faster than they can be killed, lately %s", job, found)


def _started_by(job: str) -> Iterator[int]:
    """The live processes of ours that were started with this task's environment."""
    mark = f"{JOB}={job}".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208 at each task's end, among some thousand processes
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            variables = Path("/proc", entry, "environ").read_bytes().split(b"\0")
        except OSError:  # others' processes, and those that have ended meanwhile
            continue
        if mark in variables and not is_wandbs_own(int(entry)):
            yield int(entry)
