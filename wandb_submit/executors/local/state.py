"""What a local scheduler is to do and how far it is: a folder beside the jobs' own files, with a lock in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wandb_submit.devices import Gpu
from wandb_submit.devices.variables import CUDA
from wandb_submit.errors import NotFoundError
from wandb_submit.executors.local.pool import Demand
from wandb_submit.executors.states import TaskState
from wandb_submit.system.files import is_locked, write_private

REQUEUE_EXIT_CODE = 144  # what a task exits with to be queued again
KEEPER = "wandb_submit.executors.local.keeper"  # the module that a scheduler's command line names, before its folder
_FOLDER_PREFIX = "queue-"


@dataclass(frozen=True, slots=True)
class SchedulerFiles:
    """One scheduler's files.

    Attributes:
        folder: the folder for them, below that of submitit's own files, which several arrays may share.
    """

    folder: Path

    @classmethod
    def of(cls, jobs: Path, prefix: str) -> SchedulerFiles:
        """The files for an array whose job ids begin so, in submitit's folder."""
        return cls(jobs / f"{_FOLDER_PREFIX}{prefix}")

    @property
    def jobs(self) -> Path:
        """Submitit's folder."""
        return self.folder.parent

    @property
    def prefix(self) -> str:
        """What the array's job ids begin with; a submission's id."""
        return self.folder.name.removeprefix(_FOLDER_PREFIX)

    @property
    def home(self) -> Path:
        """The folder of the submission's own, where others of the same user may be, too."""
        return self.jobs.parent.parent

    def cancelled(self, job: str) -> Path:
        """The mark of a task that is to be cancelled, for the scheduler to find when SIGUSR1 tells it to look."""
        return self.folder / f"cancel-{job}"

    @property
    def array(self) -> Path:
        """What to run."""
        return self.folder / "array.json"

    @property
    def state(self) -> Path:
        """How far it is; written by the scheduler alone."""
        return self.folder / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the scheduler and its keeper for their lives: what tells a living one from a stale file."""
        return self.folder / "scheduler.lock"

    @property
    def log(self) -> Path:
        """What the scheduler itself printed."""
        return self.folder / "scheduler.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayFile:
    """An array of tasks to run on this machine.

    Attributes:
        jobs: the tasks' ids; each has its pickle in submitit's folder.
        at_once: how many may run at a time, whatever is free.
        variable: the environment variable that tells a task its GPUs.
        include_busy: whether GPUs that others compute on will do.
        time_s: each task's time limit; `None` is none.
        signal_delay_s: how long before the limit a task gets SIGUSR2.
        grace_s: how long its trials have after a signal; the task itself gets a little more.
        halt: once this file exists, no further task begins; `None`: there is none.
        setup: what a shell runs before each task, whose environment the task then has.
        teardown: what a shell runs after it.
        one_log: whether what a task says goes to one file, errors included, and submitit says no more than it has to.
    """

    jobs: Sequence[str]
    at_once: int
    demand: Demand
    gpus: Sequence[Gpu]
    cores: Sequence[int]
    time_s: float | None
    signal_delay_s: float
    grace_s: float
    variable: str = CUDA
    include_busy: bool = False
    halt: str | None = None
    setup: Sequence[str] = field(default_factory=list)
    teardown: Sequence[str] = field(default_factory=list)
    one_log: bool = False

    @property
    def errors(self) -> str:
        """Which of a task's files its errors go to; see `paths.task_log`."""
        return "out" if self.one_log else "err"

    def save(self, files: SchedulerFiles) -> None:
        """Writes the file."""
        write_private(files.array, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, files: SchedulerFiles) -> ArrayFile:
        """Reads the file."""
        data = json.loads(files.array.read_text())
        data["demand"] = Demand(**data["demand"])
        data["gpus"] = [
            Gpu(**{**gpu, "names": tuple(gpu["names"]), "cores": tuple(gpu["cores"])}) for gpu in data["gpus"]
        ]
        return cls(**data)


@dataclass(kw_only=True, slots=True)
class TaskRow:
    """One task's progress.

    Attributes:
        started: seconds since the epoch, as is `ended`.
        restarts: how often it has been requeued.
        orphaned: whether it ended because its scheduler did, or its scheduler's keeper; `detail` then says which.
    """

    job: str
    state: TaskState = TaskState.PENDING
    detail: str = ""
    pid: int | None = None
    gpus: list[str] | None = None
    cores: list[int] = field(default_factory=list)
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    restarts: int = 0
    orphaned: bool = False


@dataclass(kw_only=True, slots=True)
class SchedulerState:
    """How far a scheduler is.

    Attributes:
        pid: its process, on the machine named `host`.
    """

    pid: int
    host: str
    tasks: list[TaskRow]

    def save(self, files: SchedulerFiles) -> None:
        """Writes the file, whole or not at all."""
        data = dataclasses.asdict(self)
        for row in data["tasks"]:
            row["state"] = row["state"].value
        write_private(files.state, json.dumps(data, indent=1) + "\n")

    @classmethod
    def load(cls, files: SchedulerFiles) -> SchedulerState:
        """Reads the file.

        Raises:
            NotFoundError: if there is none, or it is not readable as one.
        """
        try:
            data = json.loads(files.state.read_text())
            rows = [TaskRow(**{**row, "state": TaskState(row["state"])}) for row in data["tasks"]]
            return cls(pid=data["pid"], host=data["host"], tasks=rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotFoundError(f"cannot read {files.state}: {error}") from error


def is_alive(files: SchedulerFiles) -> bool:
    """Whether the scheduler of these files is running."""
    return is_locked(files.lock)
