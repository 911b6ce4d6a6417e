"""The scheduler's parent: it sleeps until the scheduler has ended, and ends what one that was killed has left.

The tasks hear of the scheduler's death by SIGTERM, but need not listen: submitit has its jobs ignore that signal. As
nobody else would, the keeper waits for their ends, kills what takes longer than its grace, and writes the truth down.
It imports what the scheduler and the tasks need, and all of them are its forks: so they share that memory, and what
the keeper has of its own is what the others have changed since.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from wandb_submit.executors.local import scheduler
from wandb_submit.executors.local.state import SchedulerFiles
from wandb_submit.executors.local.task import import_what_tasks_need
from wandb_submit.system.files import try_lock
from wandb_submit.system.kinship import adopt_orphans, die_with_parent
from wandb_submit.text import signal_name

_LOCK_PATIENCE_S = 2.0  # a `status` that looks whether we are alive holds our lock for a moment, too


def main(folder: Path) -> int:
    """Runs the array of that folder, unless another process does; returns what to exit with."""
    lock = os.open(SchedulerFiles(folder).lock, os.O_RDWR | os.O_CREAT, 0o600)  # the scheduler inherits it
    if not try_lock(lock, patience_s=_LOCK_PATIENCE_S):
        print(f"{folder} already has a scheduler", file=sys.stderr)  # noqa: T201 into its log
        return 1
    adopt_orphans()
    import_what_tasks_need()
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        die_with_parent(keeper, signal.SIGTERM)  # on which it ends its tasks, and itself
        scheduler.run(folder, keeper=keeper)
        return 0
    code = _wait_for(child)
    if code != 0:
        how = f"was killed by {signal_name(-code)}" if code < 0 else "failed, as its log tells"
        scheduler.end_tasks_of_a_dead_one(folder, f"its scheduler {how}")
        for pid in _forks_left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return abs(code)


def _wait_for(child: int) -> int:
    """Waits for a child, and for what it and its own have left to us; returns its exit status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _forks_left() -> Iterator[int]:
    """Our children that are forks of the scheduler, and so of its tasks: of those it had not yet written down."""
    own = Path("/proc/self/cmdline").read_bytes()
    for pid in map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == own:
                yield pid


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
