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
_UNLIMITED = ("UNLIMITED", "INFINITE", "-1")  # as sbatch reads a time limit


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


def parse_gpus(text: str) -> tuple[str | None, int]:
    """Reads GPUs in sbatch's format, `2` or `a100:2`, into their type and number.

    A type alone is not taken for one GPU of it, as sbatch does: `--gpus-per-task 8x` would be one GPU.

    Raises:
        ConfigError: if it is neither.
    """
    match = re.fullmatch(r"(?:([A-Za-z][\w.-]*):)?(\d+)", text.strip())
    if not match:
        raise ConfigError(f"--gpus-per-task {text!r} is not a number of GPUs: write 1, or with a type a100:1")
    return match[1], int(match[2])


def parse_gpu_names(text: str) -> tuple[str, ...]:
    """Reads names of GPUs of this machine: indices, ranges of them, and UUIDs or their beginnings.

    Raises:
        ConfigError: if it is no list of such names.
    """
    names: list[str] = []
    for part in map(str.strip, str(text).split(",")):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if match and int(match[1]) <= int(match[2] or match[1]):
            names += map(str, range(int(match[1]), int(match[2] or match[1]) + 1))
        elif re.fullmatch(r"(?:GPU|MIG)-[\w/-]+", part):
            names.append(part)
        else:
            raise ConfigError(
                f"--gpus {text!r} is no list of GPUs: write indices such as 0,2 or 0-3, or UUIDs as nvidia-smi -L "
                "shows them; how many each task gets is --gpus-per-task"
            )
    return tuple(names)


def parse_limit_min(text: str, option: str = "time") -> int | None:
    """Reads a time limit into minutes as `parse_time_min` does; `None` for `UNLIMITED`, `INFINITE` and -1."""
    return None if text.strip().upper() in _UNLIMITED else parse_time_min(text, option)


def parse_time_min(text: str, option: str = "time") -> int:
    """Reads a time in one of sbatch's formats into minutes, rounded up; messages name the option.

    The formats are those of `sbatch --time` (https://slurm.schedmd.com/sbatch.html#OPT_time):
    `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` and
    `days-hours:minutes:seconds`.

    Raises:
        ConfigError: if the text is in none of them, or the limit is zero.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip(), re.ASCII)
    if not match:
        meant = _in_sbatchs_words(text)
        raise ConfigError(f"--{option} {text!r} is not a time: write {meant or 'minutes, H:MM:SS or D-HH:MM:SS'}")
    days, *clock = (int(group) if group else 0 for group in match.groups())
    hours, minutes, seconds = clock if match[1] or match[4] else (0, *clock[:2])
    # sbatch adds up whatever is typed; 25:61:00 is a mistake all the same.
    most = (23 if match[1] else math.inf, 59 if match[1] or match[4] else math.inf, 59)
    if any(value > limit for value, limit in zip((hours, minutes, seconds), most, strict=True)):
        right = _as_limit(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
        raise ConfigError(
            f"--{option} {text!r}: there are 60 s in a minute, 60 min in an hour, 24 h in a day: is it {right}?"
        )
    seconds += ((days * 24 + hours) * 60 + minutes) * 60
    if seconds == 0:
        other = "UNLIMITED for no limit" if option == "time" else "leave it out"
        raise ConfigError(f"--{option} {text!r} is no time at all: name one above zero, or {other}")
    return -(-seconds // 60)


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_seconds(value: object, option: str) -> float:
    """Reads a number of seconds, or one with a unit: `90`, `90s`, `5m`, `1h`.

    Raises:
        ConfigError: if it is neither, or below zero.
    """
    match = re.fullmatch(
        r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*(s|sec|m|min|h|d)?", str(value).strip().lower(), re.ASCII
    )
    seconds = float(match[1]) * _UNITS_S[(match[2] or "s")[0]] if match else math.inf
    if seconds == math.inf:
        raise ConfigError(
            f"--{option} {value!r} is not a number of seconds: write 0 or more, or with a unit 90s, 5m or 1h"
        )
    return seconds


def _in_sbatchs_words(text: str) -> str | None:
    """What somebody means who writes `90m` or `1h30m`, in sbatch's words; `None` if nobody can tell."""
    typed, part = text.strip().lower(), r"(\d+(?:\.\d+)?)\s*([dhms])[a-z]*\s*"
    if not re.fullmatch(f"({part})+", typed, re.ASCII):
        return None
    return _as_limit(round(sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(part, typed, re.ASCII))))


def _as_limit(seconds: int) -> str:
    """A time limit as Slurm writes it: `1-02:30:00`, `4:00:00`."""
    days, rest = divmod(seconds, _UNITS_S["d"])
    clock = f"{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{rest // 3600:02}:{clock}" if days else f"{rest // 3600}:{clock}"


_SMALLER = {"T": "G", "G": "M", "M": "K"}  # a unit, and the one that it has 1,024 of


def check_mem(text: str) -> str:
    """Returns a memory size in sbatch's format (`16G`, `500M`, a plain number is megabytes) as it came.

    Raises:
        ConfigError: if sbatch would not read it.
    """
    if re.fullmatch(r"\d+(?:[KMGT]B?)?", text.strip(), re.IGNORECASE | re.ASCII):
        return text.strip()
    meant = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT])i?B?", text.strip(), re.IGNORECASE | re.ASCII)
    right = f"{math.ceil(float(meant[1]) * 1024)}{_SMALLER[meant[2].upper()]}" if meant else ""
    if meant and float(meant[1]).is_integer():
        right = f"{int(float(meant[1]))}{meant[2].upper()}"
    raise ConfigError(f"--mem {text!r} is not a memory size: write {right or 'for example 16G or 500M'}")
