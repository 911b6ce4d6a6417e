"""One array task on this machine: a fork of the scheduler, for which what tasks need has been imported.

So a task begins without importing anything, and shares the scheduler's memory.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wandb_submit.executors.local.leftovers import kill_leftovers
from wandb_submit.executors.local.state import ArrayFile
from wandb_submit.executors.task_program import import_submission, without_chatter
from wandb_submit.system.kinship import die_with_parent
from wandb_submit.system.process import JOB, run_in_shell, take_environment_of_shell

_UNKNOWN = 255  # the exit status of a task that somebody else has been told


def import_what_tasks_need() -> None:
    """Imports, before the scheduler and the tasks are forked, what every task would import."""
    import encodings.idna  # noqa: F401 which the first look-up of a host's address would import: 1 MB

    import_submission()
    from submitit.core import plugins

    import wandb_submit.agent.task  # noqa: F401

    plugins.get_job_environments()  # submitit keeps them
    gc.freeze()  # what the collector does not touch stays shared


def run_task(array: ArrayFile, jobs: Path) -> int:
    """Runs the pickled task that the environment names; returns what to exit with.

    Args:
        array: the array that it is part of.
        jobs: submitit's folder.
    """
    if array.setup and (status := take_environment_of_shell(array.setup)):
        return status
    from submitit.core.submission import process_job

    try:
        if array.one_log:
            return without_chatter(lambda: process_job(str(jobs)))
        process_job(str(jobs))
    finally:
        if array.teardown:
            run_in_shell(array.teardown)
    return 0


@dataclass(kw_only=True, slots=True)
class TaskProcess:
    """A task's process, which leads a session and a process group of its own.

    Attributes:
        pid: its number; it stays its own until `poll` has told of its end.
        job: what it is called in the environment of what it starts.
    """

    pid: int
    job: str
    _code: int | None = field(default=None)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal's number; `None` while it runs.

        Kills what it has left, its group as long as that number cannot have become another's.
        """
        if self._code is None:
            try:
                ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # one of a dead scheduler's, which has been told of its end
                kill_leftovers(self.job)
                self._code = _UNKNOWN
                return self._code
            if ended is not None:
                self.kill()
                kill_leftovers(self.job)
                _, status = os.waitpid(self.pid, 0)
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal, unless its end has been told."""
        if self._code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it and its process group, unless its end has been told; its trials die with it."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def fork_task(
    work: Callable[[], int],
    *,
    job: str,
    env: Mapping[str, str],
    out: Path,
    err: Path,
    cores: Collection[int],
    keep: Collection[int],
) -> TaskProcess:
    """Starts a task in a session of its own; if we die, it gets SIGTERM. We may have one thread only.

    In the new process it does not return, but exits, through its callers' frames.

    Args:
        work: what it does; its result is the exit status.
        job: what it is called.
        env: its whole environment, to which its name is added.
        out: what it prints is appended to this file.
        err: its errors, to this one.
        cores: what it runs on; empty is what we run on.
        keep: our descriptors that it keeps, of those above 2.

    Raises:
        OSError: if there can be no further process, or the files cannot be opened.
    """
    parent = os.getpid()
    with out.open("ab") as output, err.open("ab") as errors, Path(os.devnull).open("rb") as nothing:
        pid = os.fork()
        if pid:
            return TaskProcess(pid=pid, job=job)
        try:
            for number, file in enumerate((nothing, output, errors)):
                os.dup2(file.fileno(), number)
        except OSError:
            os._exit(1)
    # An exit that unwinds the stack, unlike `os._exit`, waits for threads and calls what is registered with `atexit`.
    try:
        _become_a_task(parent, {**env, JOB: job}, cores, keep)
        status = work()
    except Exception:  # noqa: BLE001 whatever it is must not return into the scheduler's loop
        traceback.print_exc()
        sys.exit(1)
    sys.exit(status)


def _become_a_task(scheduler: int, env: Mapping[str, str], cores: Collection[int], keep: Collection[int]) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    die_with_parent(scheduler, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if cores:
        os.sched_setaffinity(0, cores)
    os.environ.clear()
    os.environ.update(env)
    # Above all the lock that tells that a scheduler lives.
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - no descriptor may be open when the first is closed
        if int(entry) > 2 and int(entry) not in keep:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.close(int(entry))
