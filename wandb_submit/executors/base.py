"""What every executor can do; the rest of the program knows executors by this alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from wandb_submit.errors import RefusedError
from wandb_submit.executors.states import TaskState
from wandb_submit.spec import SubmissionSpec
from wandb_submit.store.paths import SubmissionPaths

if TYPE_CHECKING:  # it brings an HTTP client, which `status` has no use for
    from wandb_submit.agent.task import AgentTask


# submitit wants a time limit to compare with for tasks that have none, and a number of requeues for time-outs;
# how often a task is requeued is for `AgentTask.checkpoint` to decide.
NO_LIMIT_MIN = 366 * 24 * 60
ANY_NUMBER = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStatus:
    """What an executor knows of one array task.

    Attributes:
        detail: why it is in this state, in the scheduler's words; empty if it does not say.
        orphaned: whether it ended because its scheduler did. What its agents say of their end, such as the signal that
            they received, then follows from what `detail` says.
    """

    state: TaskState
    node: str = ""
    detail: str = ""
    orphaned: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRef:
    """One array task of one submission, to ask about.

    Attributes:
        index: its place in the submission, from 0.
        job: the scheduler's id of it.
    """

    paths: SubmissionPaths
    index: int
    job: str


class TooManyTasksError(RefusedError):
    """The scheduler would take fewer array tasks.

    Attributes:
        fits: how many it would take now; at least one.
    """

    def __init__(self, message: str, fits: int) -> None:
        super().__init__(message)
        self.fits = fits


class Plan(Protocol):
    """What would be submitted, as a value: `--dry-run` prints it and `submit` sends it, so that both agree."""

    @property
    def count(self) -> int:
        """How many array tasks there are."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What the person should know about it: a default that was filled in, a limit that will bite."""
        ...

    def for_sweep(self, sweep_id: str) -> Plan:
        """The same plan, for the sweep of that id."""
        ...

    def render(self) -> str:
        """The plan's text, exactly as it would be submitted."""
        ...

    def details(self) -> Mapping[str, object]:
        """What the text says, in JSON's types."""
        ...

    def resources(self) -> Mapping[str, object]:
        """What each task gets, for the submission's record."""
        ...


class Executor(Protocol):
    """One way to run array tasks.

    Instances hold no state of a submission: all of it is in the submission's folder and with the scheduler, so
    that any process can ask about and cancel what another one submitted. Calls are not thread-safe. Nothing is
    promised about how fast `states` follows the truth.
    """

    name: ClassVar[str]

    def a_node(self) -> str | None:
        """The address of one of the machines that tasks run on; `None` if that is this machine.

        Raises:
            UnavailableError: if the scheduler does not answer.
        """
        ...

    def plan(self, spec: SubmissionSpec, paths: SubmissionPaths) -> Plan:
        """Works out what would be submitted, without doing anything.

        Raises:
            ConfigError: if a default of the site's leaves its tasks no time for a run.
            RefusedError: if it is known to be impossible.
        """
        ...

    def check(self, plan: Plan) -> None:
        """Asks the scheduler whether it would take the plan, before anything is created for it.

        Raises:
            TooManyTasksError: if it would take a smaller array.
            RefusedError: if it would not.
        """
        ...

    def submit(
        self, plan: Plan, tasks: Sequence[AgentTask], paths: SubmissionPaths, keep: Callable[[Sequence[str]], None]
    ) -> None:
        """Submits the plan.

        Args:
            plan: what to submit.
            tasks: what the array's tasks do, in order.
            paths: the submission's files.
            keep: writes the tasks' job ids down, in order; called as soon as they are known, if possible before any
                task can run, for what has no record is found by nobody.

        Raises:
            TooManyTasksError: if the scheduler would take fewer; then nothing is left of what was submitted.
            RefusedError: if the scheduler refuses it; likewise.
            UnavailableError: if the scheduler does not answer.
        """
        ...

    def abandon(self, paths: SubmissionPaths) -> None:
        """Ends whatever a `submit` that was cut short has started; the submission will have no record.

        Raises:
            UnavailableError: if that cannot be done now; the text says how to do it by hand.
        """
        ...

    def states(self, tasks: Sequence[TaskRef]) -> list[TaskStatus]:
        """Tells the state of each task, in the same order; at most one question of each kind to the scheduler.

        Raises:
            UnavailableError: if the scheduler does not answer.
        """
        ...

    def cancel(self, jobs: Sequence[str], paths: SubmissionPaths, *, whole: bool = True) -> None:
        """Asks the scheduler to end the tasks; their trials get their grace. Repeated, it may be less patient.

        Args:
            jobs: the scheduler's ids of the tasks.
            paths: where the submission's files are.
            whole: whether these are all tasks of the submission.

        Raises:
            UnavailableError: if the scheduler does not answer.
        """
        ...
