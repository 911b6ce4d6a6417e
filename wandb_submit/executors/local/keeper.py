"""The scheduler's parent: it sleeps until the scheduler has ended, and ends what one that was killed has left.

The tasks hear of the scheduler's death by SIGTERM, but need not listen: submitit has its jobs ignore that signal. As
nobody else would, the keeper waits for their ends, kills what takes longer than its grace, and writes the truth down.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from wandb_submit.errors import NotFoundError
from wandb_submit.executors.local.scheduler import Scheduler
from wandb_submit.executors.local.state import ArrayFile, SchedulerFiles
from wandb_submit.files import try_lock
from wandb_submit.process import adopt_orphans, die_with_parent

_log = logging.getLogger(__name__)
_LOCK_PATIENCE_S = 2.0  # a `status` that looks whether we are alive holds our lock for a moment, too


def main(folder: Path) -> int:
    """Runs the array of that folder, unless another process does; returns what to exit with."""
    files = SchedulerFiles(folder)
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)  # the scheduler inherits it
    if not try_lock(lock, patience_s=_LOCK_PATIENCE_S):
        _log.error("%s already has a scheduler", folder)
        return 1
    array = ArrayFile.load(files)
    adopt_orphans()
    code = _wait_for(_fork(lambda: Scheduler(array, files).run()))
    if code != 0:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed, see {files.log}"
        _log.error("the scheduler %s; its tasks end", how)
        with contextlib.suppress(NotFoundError):  # it has not begun
            Scheduler.of_a_dead_one(array, files, f"its scheduler {how}").run()
        for pid in _forks_left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return abs(code)


def _fork(work: Callable[[], None]) -> int:
    keeper = os.getpid()
    if pid := os.fork():
        return pid
    die_with_parent(keeper, signal.SIGTERM)  # on which it ends its tasks, and itself
    work()
    sys.exit(0)


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
