"""What was asked for: the values that travel from the command line to the executors and the agents."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wandb_submit.errors import ConfigError

OFFLINE_SERVER = "wandb-submit"  # what the offline server calls itself in the header `Server` of its answers
DEFAULT_GRACE_S = 60.0  # what a trial gets between its signal and SIGKILL
SIGNAL_DELAY_S = 90  # how long before its time limit a task is told of it
_AFTER_GRACE_S = 30  # for the agent to write down how its trials ended, and to requeue the task
_MOST_TASKS = 4_000_000  # Slurm's own bound on MaxArraySize (https://slurm.schedmd.com/slurm.conf.html)
_LEAST_WORK_S = 60  # what a task must have for runs before it is told to end them


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRef:
    """One sweep on one W&B server.

    Attributes:
        base_url: the server's API address, as `WANDB_BASE_URL` names it.
    """

    entity: str
    project: str
    id: str
    base_url: str

    @property
    def path(self) -> str:
        """`entity/project/id`, the form that every wandb tool accepts."""
        return f"{self.entity}/{self.project}/{self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraySpec:
    """How many array tasks there are, and how many of them may run at a time (`None`: all)."""

    count: int
    parallel: int | None = None

    def __str__(self) -> str:
        return f"{self.count}" if self.parallel is None else f"{self.count}%{self.parallel}"

    @property
    def at_once(self) -> int:
        """The most tasks that may run at the same time."""
        return self.count if self.parallel is None else min(self.count, self.parallel)

    @classmethod
    def parse(cls, text: str) -> ArraySpec:
        """Reads `N` or `N%K`, or indices as sbatch takes them: `0-15`, `1-8%4`, `0-30:2`, `1,3,5-7`.

        Agents of one sweep are alike, so that it only counts how many indices there are: the tasks are numbered
        from 0. A number alone is how many there are, as K is.

        Raises:
            ConfigError: if it is neither, or comes to no task.
        """
        indices, percent, limit = text.strip().partition("%")
        parts = [re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part) for part in indices.split(",")]
        if (percent and not re.fullmatch(r"\d+", limit)) or not all(parts):
            raise ConfigError(
                f"--array {text!r} is not a number of tasks: write N, or N%K for at most K at a time, "
                "or indices such as 0-15%4"
            )
        if re.fullmatch(r"\d+", indices):
            count = int(indices)
        else:
            ranges = [(int(part[1]), int(part[2] or part[1]), int(part[3] or 1)) for part in parts if part]
            if backwards := next((part[0] for part in parts if part and part[2] and int(part[1]) > int(part[2])), None):
                raise ConfigError(f"--array {text!r}: in {backwards} the first index is above the last")
            if any(step == 0 or last - first > _MOST_TASKS for first, last, step in ranges):
                raise ConfigError(f"--array {text!r}: a step of 0, or more than {_MOST_TASKS} tasks")
            count = len({index for first, last, step in ranges for index in range(first, last + 1, step)})
        parallel = int(limit) if percent else None
        if count < 1 or parallel == 0:
            raise ConfigError(f"--array {text!r}: there must be at least 1 task, and at least 1 at a time")
        if count > _MOST_TASKS:
            raise ConfigError(f"--array {text!r}: more than {_MOST_TASKS} tasks")
        return cls(count=count, parallel=parallel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where an agent finds its W&B server; never holds a key, because it is pickled into files.

    Attributes:
        base_url: the API address.
        server_dir: the offline server's data folder, which knows its address and key; `None` for W&B.
    """

    base_url: str
    server_dir: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """What turns a bare node into the environment that runs want; without secrets, because it is pickled into files.

    Attributes:
        env: variables, set before everything else.
        setup: shell commands, run in a task before its agents begin; each entry is whole by itself.
        teardown: shell commands, run when the task's agents have ended.
        python: the command that `python` stands for in runs; `None` is what is first on `PATH`.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    teardown: tuple[str, ...] = ()
    python: str | None = None

    def __bool__(self) -> bool:
        return bool(self.env or self.setup or self.teardown or self.python)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preload:
    """What a process imports once that runs are then forked from.

    Attributes:
        modules: the modules' names.
        required: whether it is an error if one of them cannot be imported; what we guessed is not.
        folders: what is first on the runs' `sys.path`; where there is none, the folder of their program, as is usual.
    """

    modules: tuple[str, ...]
    required: bool = True
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """How many processes make up one run, each a rank of it, and on how many nodes."""

    nodes: int
    per_node: int

    @property
    def count(self) -> int:
        """How many there are in all."""
        return self.nodes * self.per_node


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionSpec:
    """What is to be started and with which resources; which sweep it is for does not matter here.

    Attributes:
        executor: `slurm` or `local`.
        workdir: the absolute folder that trials start in, as `wandb agent` starts them in its own.
        gpus_per_task: GPUs of each array task, on each of its nodes; `None` asks for none and hides none, 0 hides them.
            On a workstation that has GPUs it is never `None`.
        gpus: the GPUs of this machine to choose from, by name; empty is all that this process may use.
        include_busy: whether GPUs of this machine that others compute on will do.
        cpus_per_task: cores of each array task, on each of its nodes; `None` is the site's default (local: an even
            share).
        gpu_type: the GPUs' type in the cluster's words, such as `a100`; the local executor does not look at it.
        mem: memory of each array task, on each of its nodes, in Slurm's format (`16G`); the local executor does not
            enforce it.
        time_min: the time limit in minutes; `None` is the partition's own.
        time: the same as it was typed.
        job_name: what Slurm calls the jobs; `None` is the sweep's id.
        sbatch: further sbatch options by their long names; `None` stands for an option without a value.
        agents_per_task: how many agents share a task's devices.
        ranks: the processes that a run is started as, on all of its task's nodes; `None` is one, which may start more.
        count: runs per agent; `None` is as many as the sweep has.
        grace_s: seconds that a trial has between its signal and SIGKILL.
        max_requeues: how often a task may be requeued; `None` is as often as it takes.
        min_run_s: seconds that a run takes at least, where that is known before the first has ended.
        agent: `native`, which is ours, or `wandb` for the `wandb agent` command.
        activation: how a task prepares the environment of its runs.
        preload: what runs find imported; `None` starts each by itself.
        function: whether a run is a call of the function in the submission's folder, and not the sweep's command.
    """

    executor: str
    array: ArraySpec
    workdir: Path
    gpus_per_task: int | None = None
    gpus: tuple[str, ...] = ()
    include_busy: bool = False
    gpu_type: str | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    time_min: int | None = None
    time: str | None = None
    job_name: str | None = None
    sbatch: Mapping[str, str | None] = field(default_factory=dict)
    agents_per_task: int = 1
    ranks: Ranks | None = None
    count: int | None = None
    grace_s: float = DEFAULT_GRACE_S
    max_requeues: int | None = None
    min_run_s: float = 0.0
    agent: str = "native"
    activation: Activation = field(default_factory=Activation)
    preload: Preload | None = None
    function: bool = False

    @property
    def agents(self) -> int:
        """How many agents there are in all."""
        return self.array.count * self.agents_per_task

    @property
    def signal_delay_s(self) -> int:
        """Seconds before the time limit at which a task is told of it: its trials' grace has to fit in."""
        return max(SIGNAL_DELAY_S, math.ceil(self.grace_s) + _AFTER_GRACE_S)

    @property
    def least_time_min(self) -> int:
        """The least time limit, in minutes, of a task that is to have time for a run before it is told to end it."""
        return math.ceil((self.signal_delay_s + max(self.min_run_s, _LEAST_WORK_S)) / 60)

    def why_too_short(self, time_min: int) -> str | None:
        """What is wrong with a time limit that leaves no time for a run; `None` if it leaves enough."""
        if time_min >= self.least_time_min:
            return None
        run = f", and a run is said to take {self.min_run_s:.0f} s" if self.min_run_s else ""
        return (
            f"leaves {max(time_min * 60 - self.signal_delay_s, 0)} s for runs, which are told to end "
            f"{self.signal_delay_s} s before the limit (--grace {self.grace_s:.0f}){run}"
        )
