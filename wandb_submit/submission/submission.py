"""A submission as a person sees it: what runs where, and how to wait for it, cancel it and read its logs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.errors import NotFoundError, RefusedError, UnavailableError, WandbSubmitError
from wandb_submit.executors.base import Executor, TaskRef, TaskStatus
from wandb_submit.executors.catalog import load_executor
from wandb_submit.executors.states import TaskState
from wandb_submit.spec import SweepRef
from wandb_submit.store import record
from wandb_submit.store.events import Stamped
from wandb_submit.store.halt import Halt
from wandb_submit.store.journal import AgentView, Journal, RunView
from wandb_submit.store.logs import failed_setup
from wandb_submit.store.paths import SubmissionPaths, task_log
from wandb_submit.store.siblings import Siblings, SweepProgress
from wandb_submit.submission import lookup
from wandb_submit.submission.snapshot import Snapshot, TaskView
from wandb_submit.text import counted
from wandb_submit.wandb_api import results
from wandb_submit.wandb_api.results import Results, RunResult


@dataclass(frozen=True, kw_only=True, slots=True)
class _Patience:
    """How long to wait between two looks, in seconds.

    A login node, its file system and its scheduler are shared; the local scheduler's answer is a file on this machine.

    Attributes:
        events_s: between two looks at the agents' files.
        states_s: between two questions to the scheduler; while nothing changes, twice as long each time.
        most_s: what that grows to.
        soon_s: the same when all agents have said that they are done.
    """

    events_s: float = 2.0
    states_s: float = 15.0
    most_s: float = 60.0
    soon_s: float = 3.0


_LOCAL = _Patience(events_s=0.2, states_s=0.2, most_s=0.2, soon_s=0.2)
_REST = 5.0  # a look at very many files is followed by a rest this many times as long


class Submission:
    """What one `wandb-submit` started. Any process can look at it and steer it; this object holds no job.

    Not thread-safe.
    """

    def __init__(self, paths: SubmissionPaths) -> None:
        self.paths = paths
        self.record = record.load(paths)
        self._journal = Journal(paths)
        self._siblings = Siblings(paths, self.record, self._journal)
        self._sweep: SweepProgress | None = None
        self._executor: Executor | None = None
        self._statuses = [TaskStatus(state=TaskState.UNKNOWN) for _ in self.record.jobs]
        self._scheduler_error: str | None = None

    @classmethod
    def attach(cls, submission_id: str | None = None, home: Path | None = None) -> Submission:
        """Finds a submission by its id, the beginning of it, or what else we print of it; without one, the newest.

        Raises:
            NotFoundError: if there is none.
        """
        return cls(lookup.find(submission_id, home).paths)

    @property
    def id(self) -> str:
        """Its short id."""
        return self.record.id

    def status(self) -> Snapshot:
        """Asks the scheduler once, and reads what the agents have written."""
        self._ask_scheduler()
        self._journal.update()
        self._sweep = self._siblings.progress()
        return self._snapshot()

    @classmethod
    def status_of_all(cls, submissions: Sequence[Submission]) -> list[Snapshot]:
        """The same of several; each scheduler is asked once about all of them, and an error is in their snapshots."""
        groups: dict[str, list[Submission]] = {}
        for submission in submissions:
            groups.setdefault(submission.record.executor, []).append(submission)
        for group in groups.values():
            try:
                cls._ask_about(group)
            except RefusedError as error:  # such as Slurm's commands missing here
                for submission in group:
                    submission._scheduler_error = str(error)
        sweeps_of: dict[SweepRef, list[Submission]] = {}
        for submission in submissions:
            submission._journal.update()
            sweeps_of.setdefault(submission.record.sweep, []).append(submission)
        for sharing in sweeps_of.values():
            together = SweepProgress.of((submission.record, submission._journal) for submission in sharing)
            for submission in sharing:
                submission._sweep = together
        return [submission._snapshot() for submission in submissions]

    def follow(self) -> Iterator[tuple[Snapshot, list[tuple[str, Stamped]]]]:
        """Yields a snapshot and the events since the last one, until every task has ended.

        It sleeps between two looks, longer for a scheduler that others share.
        """
        patience = _LOCAL if self.record.executor == "local" else _Patience()
        states_s = patience.states_s
        asked_at = -float("inf")
        while True:
            began = time.monotonic()
            quiet = False
            if began >= asked_at + (patience.soon_s if self._all_stopped() else states_s):
                before = self._statuses
                self._ask_scheduler()
                quiet = before == self._statuses
                asked_at = time.monotonic()
            news = self._journal.update()  # after the scheduler: what an ended task wrote is all there
            if news:
                states_s = patience.states_s
            elif quiet:
                states_s = min(states_s * 2, patience.most_s)
            self._sweep = self._siblings.progress()
            snapshot = self._snapshot()
            took_s = time.monotonic() - began
            yield snapshot, news
            if snapshot.is_over:
                return
            time.sleep(max(patience.events_s, took_s * _REST))

    def wait(self, on_change: Callable[[Snapshot], None] | None = None) -> Snapshot:
        """Waits until every task has ended; `on_change` is called at every look."""
        snapshot = self._snapshot()
        for snapshot, _ in self.follow():
            if on_change is not None:
                on_change(snapshot)
        return snapshot

    def cancel(self, tasks: Sequence[int] = ()) -> None:
        """Stops the tasks; their runs get their grace. A second call kills a local submission.

        Args:
            tasks: the array tasks to stop; none named means all of them.

        Raises:
            UnavailableError: if the scheduler does not answer.
        """
        if tasks:
            named = [self.record.jobs[task] for task in tasks]
            self._load_executor().cancel(named, self.paths, whole=len(named) == len(self.record.jobs))
            return
        with contextlib.suppress(OSError):  # then agents speak of the signal
            self.paths.cancelled.touch()
        try:
            self._load_executor().cancel(self.record.jobs, self.paths)
        except WandbSubmitError:
            self.paths.cancelled.unlink(missing_ok=True)
            raise

    def lost_runs(self) -> set[str]:
        """The runs whose agents ended without reporting their ends, as of the last `status`."""
        over = {index for index, status in enumerate(self._statuses) if status.state.is_terminal}
        present = {run for agent in self._journal.agents.values() if agent.task not in over for run in agent.running}
        return {run.id for run in self._journal.runs.values() if run.ended is None} - present

    def runs(self) -> list[RunView]:
        """The runs that this submission's agents have started, or could not start, oldest first."""
        self._journal.update()
        return sorted(self._journal.runs.values(), key=lambda run: run.started)

    def run_log(self, run: str | RunView | RunResult) -> Path:
        """The log file of a run: one of `runs` or of `results`, or its id, or the beginning of that.

        Raises:
            NotFoundError: if this submission has no such run, or it could not be started.
        """
        run_id = run if isinstance(run, str) else run.id
        matching = [one for one in self.runs() if one.id.startswith(run_id)]
        exact = [one for one in matching if one.id == run_id]
        match exact or matching:
            case [one]:
                if not one.log:
                    raise NotFoundError(f"run {one.id} has no log, for it was not started: {one.not_started}")
                return Path(one.log)
            case []:
                raise NotFoundError(
                    f"submission {self.id} has no run {run_id!r}: `wandb-submit logs {self.id}` lists them"
                )
            case several:
                raise NotFoundError(f"{run_id!r} could be {', '.join(run.id for run in several)}: type more of it")

    def logs(self, run: str | RunView | RunResult) -> str:
        """What a run has printed: one of `runs` or of `results`, or its id, or the beginning of that.

        Raises:
            NotFoundError: if this submission has no such run.
        """
        return self.run_log(run).read_text(errors="replace")

    def results(self) -> Results:
        """How the sweep came out so far, as its server tells: its runs with their configurations, and the best one.

        A server takes minutes to notice that a run was killed. Until then such a run has the state that is known here.

        Raises:
            UnavailableError: if the server does not answer.
        """
        told = results.read(self.record.sweep, self.record.endpoint)
        ended, lost = {run.id: run for run in self.runs()}, self.lost_runs()
        runs = tuple(
            dataclasses.replace(run, state=_state(run.state, ended[run.id], lost=run.id in lost))
            if run.id in ended
            else run
            for run in told.runs
        )
        return dataclasses.replace(told, runs=runs, states=Counter(run.state for run in runs))

    def uninitialized(self, results: Results) -> list[RunView]:
        """The runs that ended well and that no `wandb.init()` has begun, so that their server calls them failed.

        Args:
            results: what the server tells of the sweep's runs since these have ended.
        """
        unheard = {run.id for run in results.runs if not run.initialized}
        return [run for run in self.runs() if run.ended_well and run.id in unheard]

    def __repr__(self) -> str:
        self._journal.update()
        snapshot = self._snapshot()
        where = f"sweep {self.record.sweep.path}, {counted(len(self.record.jobs), 'task')} on {self.record.executor}"
        return f"<Submission {self.id}: {where}, {snapshot.progress}>"

    def task_logs(self, index: int) -> list[Path]:
        """The log files of an array task itself; of an older version's, standard output and standard error apart.

        Raises:
            NotFoundError: if there is no such task.
        """
        if not 0 <= index < len(self.record.jobs):
            raise NotFoundError(f"submission {self.id} has the array tasks 0-{len(self.record.jobs) - 1}, not {index}")
        job = self.record.jobs[index]
        return [task_log(self.paths.jobs, job, stream) for stream in ("out", "err")]

    def _snapshot(self) -> Snapshot:
        agents, runs = self._journal.agents, self._journal.runs
        halt = Halt.read(self.paths.halt)
        by_task: dict[int, list[AgentView]] = {}
        for agent in agents.values():
            by_task.setdefault(agent.task, []).append(agent)
        tasks = []
        for index, (job, status) in enumerate(zip(self.record.jobs, self._statuses, strict=True)):
            own = tuple(by_task.get(index, ()))
            busy = tuple(runs[run] for agent in own for run in agent.running) if not status.state.is_terminal else ()
            surplus = halt.reason if halt and halt.ok and _is_dropped(status, own, halt) else None
            if status.state is TaskState.FAILED and not own and (why := self._failed_setup(index)):
                status = dataclasses.replace(status, detail=why)
            tasks.append(TaskView(index=index, job=job, status=status, agents=own, runs=busy, surplus=surplus))
        return Snapshot(
            record=self.record,
            tasks=tuple(tasks),
            scheduler_error=self._scheduler_error,
            halt=halt,
            sweep=self._sweep,
        )

    def _failed_setup(self, index: int) -> str:
        return next((why for log in self.task_logs(index) if (why := failed_setup(log))), "")

    def _ask_scheduler(self) -> None:
        self._ask_about([self])

    @staticmethod
    def _ask_about(group: Sequence[Submission]) -> None:
        """Asks one executor about the tasks that have not ended; what has ended stays so."""
        live = [(submission, task) for submission in group for task in submission._live()]
        if not live:
            return
        try:
            answers = group[0]._load_executor().states([task for _, task in live])
        except UnavailableError as error:
            for submission in group:
                submission._scheduler_error = str(error)
            return
        for submission in group:
            submission._scheduler_error = None
            submission._statuses = list(submission._statuses)
        for (submission, task), status in zip(live, answers, strict=True):
            submission._statuses[task.index] = status

    def _live(self) -> list[TaskRef]:
        """The tasks that have not ended, as far as is known."""
        return [
            TaskRef(paths=self.paths, index=index, job=job)
            for index, (job, status) in enumerate(zip(self.record.jobs, self._statuses, strict=True))
            if not status.state.is_terminal
        ]

    def _all_stopped(self) -> bool:
        """Whether all agents have said that they are done, and no other one will begin."""
        agents = self._journal.agents.values()
        all_began = len(agents) >= len(self.record.jobs) or self.paths.halt.exists()
        return bool(agents) and all_began and all(agent.stopped is not None for agent in agents)

    def _load_executor(self) -> Executor:
        if self._executor is None:
            self._executor = load_executor(self.record.executor)
        return self._executor


def _is_dropped(status: TaskStatus, agents: Sequence[AgentView], halt: Halt) -> bool:
    """Whether a task was cancelled that had nothing left to do: its agents, if it has begun, had left for the halt."""
    return status.state is TaskState.CANCELLED and all(agent.stopped == halt.reason for agent in agents)


def _state(told: str, run: RunView, *, lost: bool) -> str:
    """The state of one of our runs, where its server has not noticed yet that it was killed.

    A run that was stopped and ended with a status of its own may go on elsewhere, and so may one that never began.
    """
    was_killed = run.exit_code is not None and run.exit_code < 0
    match told:
        case "running" if run.stop_reason is not None and was_killed:
            return "killed"
        case "running" if run.failed or lost:
            return "crashed"
        case "pending" if run.failed:
            return "failed"
    return told
