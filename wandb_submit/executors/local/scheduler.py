"""The local scheduler: one process per submission, which queues array tasks for this machine's devices.

It sleeps until a task ends, a signal comes, a time limit is due or another submission frees a device that a task waits
for; only while a stranger computes on it does it look, every five seconds. SIGTERM cancels all tasks, SIGUSR1 those
that are marked: pending ones are dropped, running ones get SIGTERM and their grace. A second SIGTERM kills. Its parent,
the keeper, outlives it; if that is killed, the kernel sends us SIGTERM, and the tasks have failed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType

from wandb_submit.devices.cores import side_by_side
from wandb_submit.devices.strangers import watch_for, watch_nobody
from wandb_submit.errors import NotFoundError, WandbSubmitError
from wandb_submit.executors.local.closings import TOLD_BY
from wandb_submit.executors.local.holders import holders_of
from wandb_submit.executors.local.line import Place
from wandb_submit.executors.local.pool import Pool, Slot, places
from wandb_submit.executors.local.state import (
    REQUEUE_EXIT_CODE,
    ArrayFile,
    SchedulerFiles,
    SchedulerState,
    TaskRow,
)
from wandb_submit.executors.local.task import TaskProcess, fork_task, run_task
from wandb_submit.executors.states import TaskState
from wandb_submit.store.halt import Halt
from wandb_submit.store.paths import task_log
from wandb_submit.system.files import is_full
from wandb_submit.text import signal_name

_log = logging.getLogger(__name__)  # which, unlike `print`, does not mind a full disk
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_SAVE_AGAIN_S = 2.0  # how often to try where the disk is full
_DEAF_S = 2.0  # how long a new task may take to listen to signals
_KILL_WAIT_S = 30.0  # between SIGTERM and SIGKILL at a time limit: Slurm's KillWait, where the grace is not shorter
_KILL_AFTER_GRACE_S = 10.0  # what an agent gets beyond its trials' grace, to write down how they ended


class Scheduler:
    """Runs one array to its end.

    Args:
        array: the tasks.
        files: where they and their progress are written.
        fork: what starts a task.
        keeper: our parent, whose end is ours, too; `None` if we have none.
    """

    def __init__(
        self,
        array: ArrayFile,
        files: SchedulerFiles,
        fork: Callable[..., TaskProcess] = fork_task,
        keeper: int | None = None,
    ) -> None:
        self._array = array
        self._files = files
        self._fork = fork
        self._keeper = keeper
        self._state = SchedulerState(
            pid=os.getpid(), host=socket.gethostname(), tasks=[TaskRow(job=job) for job in array.jobs]
        )
        self.pool = Pool(
            gpus=array.gpus,
            cores=array.cores,
            places=self._places(),
            neighbours=side_by_side(array.cores),
            variable=array.variable,
            watch=watch_nobody if array.include_busy else watch_for(array.gpus, array.variable),
            place=Place(),
            holders=functools.partial(holders_of, asker=files),
        )
        self._queue = list(range(len(array.jobs)))
        self._processes: dict[int, TaskProcess] = {}
        self._warned: set[int] = set()
        self._overdue: set[int] = set()
        self._killed: set[int] = set()
        self._deadlines: dict[int, float] = {}
        self._saved = ""
        self._unsaved = False
        self._fate: str | None = None  # what has ended that the tasks cannot go on without
        self._cancelled: set[int] = set()

    @classmethod
    def of_a_dead_one(cls, array: ArrayFile, files: SchedulerFiles, how: str) -> Scheduler:
        """One that lets the tasks of a scheduler that has died come to their ends, which they have been asked to.

        For the process that has inherited these tasks as its children.

        Args:
            array: the tasks.
            files: where they and their progress are written.
            how: what became of their scheduler, for people.

        Raises:
            NotFoundError: if the scheduler has died before it began.
        """
        heir = cls(array, files)
        heir._state.tasks[:] = SchedulerState.load(files).tasks
        for task, row in enumerate(heir._state.tasks):
            if row.pid is not None and row.state is TaskState.RUNNING:
                heir._processes[task] = TaskProcess(pid=row.pid, job=row.job)
                heir._be_patient(task)
        heir._doom(how)
        return heir

    def run(self) -> None:
        """Runs until every task has ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # A blocked signal whose action is "ignore" is thrown away instead of waited for.
        for number in _SIGNALS:
            signal.signal(number, _never_called)
        self._save()  # whoever submitted waits for it
        while self.step():
            told_by = self._sleep()
            if told_by == signal.SIGTERM and self._fate is None and self._keeper not in (None, os.getppid()):
                self._doom("its scheduler's keeper was killed")
                self._cancel(set(self._processes) - self._cancelled)
            elif told_by not in (None, signal.SIGCHLD, TOLD_BY):
                self._cancel(self._marked() if told_by == signal.SIGUSR1 else range(len(self._array.jobs)))

    def step(self) -> bool:
        """Does what is to be done now; tells whether there is more to come."""
        self._reap()
        self._enforce_limits()
        self._start_waiting()
        self._save()
        return bool(self._queue or self._processes or self._unsaved)

    def _doom(self, how: str) -> None:
        """Lets the tasks fail, and begins no other: they cannot go on without what has ended."""
        self._fate = how
        self._queue.clear()
        for task, row in enumerate(self._state.tasks):
            if not row.state.is_terminal:
                self._tell_in_log(row.job, how)
            if not row.state.is_terminal and task not in self._processes:
                row.state, row.detail, row.ended, row.orphaned = TaskState.FAILED, how, time.time(), True

    def _tell_in_log(self, job: str, how: str) -> None:
        """Adds a line to the log of a task, which itself hears of a signal only."""
        with contextlib.suppress(OSError), task_log(self._files.jobs, job, self._array.errors).open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {how}\n")

    def _sleep(self) -> int | None:
        """Sleeps until there is something to do; the signal that said so, if one did."""
        end = time.monotonic() + self.patience()
        while True:
            info = signal.sigtimedwait((*_SIGNALS, TOLD_BY), max(end - time.monotonic(), 0.0))
            if info is None:
                return None
            if info.si_signo != TOLD_BY or self.pool.may_have_changed():
                return info.si_signo

    def _places(self) -> int:
        array = self._array
        return max(places(min(array.at_once, len(array.jobs)), array.demand, array.gpus, array.cores), 1)

    def _save(self) -> None:
        """Writes the state file if anything has changed.

        A full disk is no reason to end the tasks; it is tried again until there is room, also once all have ended, for
        without its last words a scheduler seems to have been killed.
        """
        present = repr(self._state)
        if present == self._saved:
            return
        try:
            self._state.save(self._files)
            self._saved = present
            self._unsaved = False
        except OSError as error:
            if not self._unsaved:
                _log.error("cannot write %s: %s", self._files.state, error.strerror)
            # Only room may come again; where the folder has been deleted nobody asks any more.
            self._unsaved = is_full(error)

    def patience(self) -> float:
        """How long nothing can happen that no signal tells."""
        due = [3600.0, *(deadline - time.monotonic() for deadline in self._next_deadlines())]
        if self._queue and len(self._processes) < self._array.at_once:
            due.append(self.pool.patience_s())
        if self._unsaved:
            due.append(_SAVE_AGAIN_S)
        return max(min(due), 0.0)

    def _next_deadlines(self) -> Iterator[float]:
        for task, deadline in self._deadlines.items():
            if task in self._killed:
                continue
            yield deadline if task in self._told() else self._warn_at(task, deadline)

    def _told(self) -> set[int]:
        """The tasks that know that their time is up."""
        return self._warned | self._overdue | self._cancelled

    def _warn_at(self, task: int, deadline: float) -> float:
        """When a task gets SIGUSR2: not before its Python has had time to listen to it."""
        if self._array.time_s is None:
            return deadline
        return max(deadline - self._array.signal_delay_s, deadline - self._array.time_s + _DEAF_S)

    def _start_waiting(self) -> None:
        """Starts tasks from the head of the queue, in order, as devices allow."""
        if self._array.halt is not None and (halt := Halt.read(Path(self._array.halt))):
            self._drop_waiting(halt.reason)
        while self._queue and len(self._processes) < self._array.at_once:
            task = self._queue[0]
            try:
                slot = self.pool.take(task, self._array.demand)
                if slot is None:
                    self._state.tasks[task].detail = self.pool.shortage.reason if self.pool.shortage else ""
                    return
                self._queue.pop(0)
                self._start(task, slot)
            except (OSError, WandbSubmitError) as error:
                self._queue[:] = [waiting for waiting in self._queue if waiting != task]
                self.pool.give_back(task)
                row = self._state.tasks[task]
                row.state, row.detail, row.ended = TaskState.FAILED, f"cannot be started: {error}", time.time()
        self.pool.leave_line()

    def _drop_waiting(self, reason: str) -> None:
        for task in self._queue:
            self._drop(task, reason)
        self._queue.clear()

    def _drop(self, task: int, reason: str) -> None:
        row = self._state.tasks[task]
        row.state, row.detail, row.ended = TaskState.CANCELLED, reason, time.time()

    def _start(self, task: int, slot: Slot) -> None:
        row, job = self._state.tasks[task], self._array.jobs[task]
        process = self._fork(
            functools.partial(run_task, self._array, self._files.jobs),
            job=job,
            env=slot.environment(os.environ) | {"SUBMITIT_EXECUTOR": "workstation"},
            out=task_log(self._files.jobs, job, "out"),
            err=task_log(self._files.jobs, job, self._array.errors),
            cores=slot.cores,
            keep=slot.descriptors,
        )
        self._processes[task] = process
        if self._array.time_s is not None:
            self._deadlines[task] = time.monotonic() + self._array.time_s
        row.state, row.detail, row.pid, row.started = TaskState.RUNNING, "", process.pid, time.time()
        row.gpus = None if slot.gpus is None else [gpu.token for gpu in slot.gpus]
        row.cores = list(slot.cores)

    def _reap(self) -> None:
        for task, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[task]
            self._deadlines.pop(task, None)
            self.pool.give_back(task)
            self._end(task, code)
            for told in (self._warned, self._overdue, self._killed):
                told.discard(task)

    def _end(self, task: int, code: int) -> None:
        row = self._state.tasks[task]
        row.pid, row.exit_code, row.ended = None, code, time.time()
        if self._fate is not None:
            row.state, row.detail, row.orphaned = TaskState.FAILED, self._fate, True
        elif task in self._cancelled:
            row.state = TaskState.CANCELLED
        elif code == REQUEUE_EXIT_CODE:
            row.state, row.restarts = TaskState.PENDING, row.restarts + 1
            self._queue.append(task)
        elif task in self._overdue:
            row.state = TaskState.TIMEOUT
        elif code == 0:
            row.state = TaskState.COMPLETED
        else:
            row.state = TaskState.FAILED
            row.detail = f"killed by {signal_name(-code)}" if code < 0 else f"exit status {code}"

    def _enforce_limits(self) -> None:
        """SIGUSR2 some time before a task's limit, SIGTERM at it and SIGKILL after a while, all as Slurm sends them."""
        now = time.monotonic()
        for task, deadline in self._deadlines.items():
            process = self._processes[task]
            if now >= deadline and task not in {*self._cancelled, *self._overdue}:
                self._overdue.add(task)
                self._deadlines[task] = now + min(self._array.grace_s, _KILL_WAIT_S)
                process.send_signal(signal.SIGTERM)
            elif now >= deadline:
                self._killed.add(task)  # its end may take the kernel a while, and SIGCHLD tells of it
                process.kill()
            elif now >= self._warn_at(task, deadline) and task not in self._told():
                self._warned.add(task)
                process.send_signal(signal.SIGUSR2)

    def _marked(self) -> list[int]:
        """The tasks that are marked to be cancelled and have not been yet."""
        return [
            task
            for task, job in enumerate(self._array.jobs)
            if task not in self._cancelled and self._files.cancelled(job).exists()
        ]

    def _cancel(self, tasks: Iterable[int]) -> None:
        for task in tasks:
            if task in self._queue:
                self._queue.remove(task)
                self._cancelled.add(task)
                self._drop(task, "")
            elif (process := self._processes.get(task)) is None:
                continue
            elif task in self._cancelled:
                process.kill()
            else:
                process.send_signal(signal.SIGTERM)
                self._be_patient(task)

    def _be_patient(self, task: int) -> None:
        """Gives a task that has been asked to end the time for it."""
        self._cancelled.add(task)
        patience = time.monotonic() + self._array.grace_s + _KILL_AFTER_GRACE_S
        self._deadlines[task] = min(self._deadlines.get(task, patience), patience)


def _never_called(number: int, frame: FrameType | None) -> None:
    raise AssertionError("a blocked signal was delivered")


def run(folder: Path, *, keeper: int) -> None:
    """Runs the array of that folder, as a child of the keeper."""
    files = SchedulerFiles(folder)
    Scheduler(ArrayFile.load(files), files, keeper=keeper).run()


def end_tasks_of_a_dead_one(folder: Path, how: str) -> None:
    """Waits for the ends of a dead scheduler's tasks, which are our children now; see `Scheduler.of_a_dead_one`."""
    files = SchedulerFiles(folder)
    _log.error("%s; its tasks end", how)
    with contextlib.suppress(NotFoundError):  # it had not begun
        Scheduler.of_a_dead_one(ArrayFile.load(files), files, how).run()
