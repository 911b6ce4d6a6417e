"""From what was typed (flags and templates) to a checked `SubmissionSpec`, with every problem in one message."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from wandb_submit import activation, templates
from wandb_submit.errors import ConfigError
from wandb_submit.specs import (
    DEFAULT_GRACE_S,
    MIN_TIME_MIN,
    SIGNAL_DELAY_S,
    ArraySpec,
    Preload,
    SubmissionSpec,
    check_mem,
    parse_gpus,
    parse_time_min,
)

_T = TypeVar("_T")
DefaultArray: TypeAlias = Callable[[str, "int | None", "int | None", int], ArraySpec]

# sbatch options that have a flag of their own here; the rest goes through `--sbatch KEY=VALUE`.
SBATCH_FLAGS = (
    "partition",
    "account",
    "qos",
    "constraint",
    "nodelist",
    "exclude",
    "gres",
    "reservation",
)
# What this program decides, and what to use instead.
_OWNED = {
    "array": "use --array",
    "gpus-per-task": "use --gpus-per-task",
    "cpus-per-task": "use --cpus-per-task",
    "mem": "use --mem",
    "time": "use --time",
    "chdir": "the runs start in the folder that you submit from",
    "error": "each task's log is in the submission's folder; see `wandb-submit logs`",
    "output": "each task's log is in the submission's folder; see `wandb-submit logs`",
    "job-name": "the job is named after the submission",
    "nodes": "every array task is one agent on one node",
    "ntasks": "every array task is one agent",
    "ntasks-per-node": "every array task is one agent",
    "open-mode": "the logs of requeued tasks are appended",
    "signal": "the agent is warned before the time limit",
    "wrap": "the script is ours",
    "test-only": "use --dry-run",
    "parsable": "the job's id is in the submission's record",
    "wait": "use --wait",
    "clusters": "set SLURM_CLUSTERS, which all of Slurm's commands heed",
    "cluster": "set SLURM_CLUSTERS, which all of Slurm's commands heed",
}
AGENTS = ("native", "wandb")
_LEAST_WORK_S = 60  # what a task must have for runs before it is told to end them
# How a template says that an option has no value; its values are read as text.
_NO_VALUE = (None, "", "null", "~", "true")
_KEYS = (
    "executor",
    "array",
    "gpus-per-task",
    "cpus-per-task",
    "mem",
    "time",
    "agents-per-task",
    "agent",
    "preload",
    "count",
    "grace",
    "max-requeues",
    "min-time-per-run",
    "env",
    "setup",
    "teardown",
    "python",
    "sbatch",
    *SBATCH_FLAGS,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What was asked for, before any of it has been checked; `None` means not asked for.

    Attributes:
        templates: names or files of templates.
        preload: modules' names, one or several with commas between them in each text; an empty list is none.
        env: `NAME=VALUE` texts.
        setup: shell commands before the agents begin, after those of the templates.
        teardown: shell commands when the agents have ended.
        python: the command that `python` stands for in runs.
        sbatch: `KEY=VALUE` or `KEY` texts.
        flags: sbatch options that have a flag of their own, by name.
    """

    executor: str | None = None
    array: str | None = None
    gpus_per_task: int | str | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    time: str | None = None
    agents_per_task: int | None = None
    agent: str | None = None
    preload: Sequence[str] | None = None
    count: int | None = None
    grace: float | None = None
    max_requeues: int | None = None
    min_time_per_run: str | None = None
    templates: Sequence[str] = ()
    env: Sequence[str] = ()
    setup: Sequence[str] = ()
    teardown: Sequence[str] = ()
    python: str | None = None
    sbatch: Sequence[str] = ()
    flags: Mapping[str, str] = field(default_factory=dict)

    def merged(self) -> dict[str, object]:
        """Lays these options over their templates."""
        own: dict[str, object] = {
            "executor": self.executor,
            "array": self.array,
            "gpus-per-task": self.gpus_per_task,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.mem,
            "time": self.time,
            "agents-per-task": self.agents_per_task,
            "agent": self.agent,
            "preload": None if self.preload is None else ",".join(self.preload),
            "count": self.count,
            "grace": self.grace,
            "max-requeues": self.max_requeues,
            "min-time-per-run": self.min_time_per_run,
            "env": dict(_variable(text) for text in self.env) or None,
            "setup": list(self.setup) or None,
            "teardown": list(self.teardown) or None,
            "python": self.python,
            "sbatch": dict(_key_value(text) for text in self.sbatch) or None,
            **self.flags,
        }
        given = {key: value for key, value in own.items() if value is not None}
        layers = [_lists(_gather_sbatch(templates.load(name), no_value=_NO_VALUE)) for name in self.templates]
        return templates.merge([*layers, _gather_sbatch(given)])


class _Problems:
    """Collects what is wrong, so that one message can name all of it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except ConfigError as error:
            self.found.append(str(error))
            return None

    def raise_if_any(self) -> None:
        if self.found:
            raise ConfigError("\n".join(self.found))


def build_spec(
    options: Options,
    *,
    workdir: Path,
    pick_executor: Callable[[str], str],
    default_array: DefaultArray,
    function: Preload | None = None,
) -> SubmissionSpec:
    """Checks options and fills in their defaults.

    Args:
        options: what was asked for.
        workdir: the folder that runs start in.
        pick_executor: turns `auto` or a name into the executor's name.
        default_array: the array for an executor, GPUs, cores and agents per task when none was asked for.
        function: what the function uses that runs call; `None` where they run the sweep's command.

    Raises:
        ConfigError: naming every problem, one per line.
    """
    values = options.merged()
    problems = _Problems()
    problems.found += [_unknown(key) for key in values if key not in _KEYS]
    executor = problems.check(lambda: pick_executor(str(values.get("executor", "auto"))))
    array_text = values.get("array")
    array = problems.check(lambda: ArraySpec.parse(str(array_text))) if array_text is not None else None
    asked = values.get("gpus-per-task")
    gpu_type, gpus = problems.check(lambda: (None, None) if asked is None else parse_gpus(str(asked))) or (None, None)
    cpus = problems.check(lambda: _number(values, "cpus-per-task", minimum=1))
    agents_per_task = problems.check(lambda: _number(values, "agents-per-task", minimum=1)) or 1
    agent = problems.check(lambda: _agent(values, function=function is not None))
    preload = problems.check(lambda: _preload(values, function))
    count = problems.check(lambda: _number(values, "count", minimum=1))
    grace_s = problems.check(lambda: _seconds(values, "grace"))
    max_requeues = problems.check(lambda: _number(values, "max-requeues", minimum=0))
    shortest = values.get("min-time-per-run")
    min_run_min = problems.check(lambda: 0 if shortest is None else parse_time_min(str(shortest), "min-time-per-run"))
    mem = problems.check(lambda: check_mem(str(values["mem"])) if "mem" in values else None)
    time_min = problems.check(lambda: _time_min(str(values["time"])) if "time" in values else None)
    active = problems.check(lambda: activation.read(values, workdir))
    sbatch = problems.check(lambda: _sbatch(values)) or {}
    problems.raise_if_any()
    assert executor is not None  # noqa: S101 a problem would have been raised
    assert active is not None  # noqa: S101 likewise
    spec = SubmissionSpec(
        executor=executor,
        array=array or default_array(executor, gpus, cpus, agents_per_task),
        workdir=workdir,
        gpus_per_task=gpus,
        gpu_type=gpu_type if gpus else None,
        cpus_per_task=cpus,
        mem=mem,
        time_min=time_min,
        time=None if time_min is None else str(values["time"]).strip(),
        sbatch=sbatch,
        agents_per_task=agents_per_task,
        agent=agent or AGENTS[0],
        count=count,
        grace_s=DEFAULT_GRACE_S if grace_s is None else grace_s,
        # Slurm would refuse, after the runs have been ended for it.
        max_requeues=0 if "no-requeue" in sbatch else max_requeues,
        min_run_s=(min_run_min or 0) * 60.0,
        activation=active,
        preload=preload,
        function=function is not None,
    )
    _check_fit(spec)
    return spec


def check_template(name: str, pick_executor: Callable[[str], str]) -> None:
    """Checks one template by itself, as if a submission named nothing else.

    Args:
        name: its name or file.
        pick_executor: turns `auto` or a name into the executor's name.

    Raises:
        NotFoundError: if there is none.
        ConfigError: naming every problem, one per line.
    """
    build_spec(
        Options(templates=(name,)),
        workdir=Path.cwd(),
        pick_executor=pick_executor,
        default_array=lambda executor, gpus, cpus, agents: ArraySpec(count=1),
    )


def _number(values: Mapping[str, object], key: str, *, minimum: int) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < minimum:
        raise ConfigError(f"--{key} {value!r} is not a whole number of at least {minimum}")
    return int(str(value))


def _seconds(values: Mapping[str, object], key: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"--{key} {value!r} is not a number of seconds")
    return seconds


def _preload(values: Mapping[str, object], guess: Preload | None) -> Preload | None:
    given = values.get("preload")
    if given is None:
        return guess if guess and guess.modules else None
    names = given if isinstance(given, list) else [name for name in str(given).split(",") if name.strip()]
    modules = [str(name).strip() for name in names]
    if odd := [name for name in modules if not all(part.isidentifier() for part in name.split("."))]:
        raise ConfigError(f"--preload {', '.join(map(repr, odd))}: not a module's name, such as torch or torch.nn")
    return Preload(modules=tuple(modules), folders=guess.folders if guess else ()) if modules else None


def _agent(values: Mapping[str, object], *, function: bool) -> str:
    name = str(values.get("agent", AGENTS[0]))
    if name not in AGENTS:
        raise ConfigError(f"--agent {name!r} is none of {', '.join(AGENTS)}")
    if name != AGENTS[0] and (function or values.get("preload")):
        what = "a function" if function else "--preload"
        raise ConfigError(f"--agent {name}: {what} needs the native agent; leave --agent out")
    if name != AGENTS[0] and values.get("min-time-per-run") is not None:
        raise ConfigError("--min-time-per-run: `wandb agent` does not look at the time; leave it or --agent out")
    return name


def _time_min(text: str) -> int:
    minutes = parse_time_min(text)
    if minutes < MIN_TIME_MIN:
        raise ConfigError(
            f"--time {text!r} is too short: agents are told {SIGNAL_DELAY_S} s before the limit, "
            f"so that {MIN_TIME_MIN} minutes is the least"
        )
    return minutes


def _check_fit(spec: SubmissionSpec) -> None:
    """Makes sure that a task has time for a run before it is told to end it."""
    if spec.time_min is None:
        return
    usable_s = spec.time_min * 60 - spec.signal_delay_s
    if usable_s < max(spec.min_run_s, _LEAST_WORK_S):
        run = f", and a run is said to take {spec.min_run_s:.0f} s" if spec.min_run_s else ""
        raise ConfigError(
            f"--time {spec.time_min} min leaves {max(usable_s, 0)} s for runs: they are told to end "
            f"{spec.signal_delay_s} s before the limit (--grace {spec.grace_s:.0f}){run}: ask for more time"
        )


def _key_value(text: str) -> tuple[str, str | None]:
    key, equals, value = text.removeprefix("--").partition("=")
    return key.strip().replace("_", "-"), value if equals else None


def _variable(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def _lists(layer: Mapping[str, object]) -> dict[str, object]:
    """Takes a template's single command for a list of one, so that the templates' commands are joined."""
    one = {key: [layer[key]] for key in ("setup", "teardown") if isinstance(layer.get(key), str)}
    return {**layer, **one}


def _gather_sbatch(layer: Mapping[str, object], no_value: Sequence[object] = ()) -> dict[str, object]:
    """Moves the sbatch options that have flags of their own to the others, so that there is one place for each."""
    rest = {key: value for key, value in layer.items() if key not in SBATCH_FLAGS and key != "sbatch"}
    free = layer.get("sbatch")
    if free is not None and not isinstance(free, dict):
        return {**rest, "sbatch": free}  # refused later, with the other problems
    named = {key: value for key, value in layer.items() if key in SBATCH_FLAGS}
    others = {str(key).replace("_", "-"): None if value in no_value else value for key, value in (free or {}).items()}
    options = {**others, **named}
    return {**rest, "sbatch": options} if options else rest


def _sbatch(values: Mapping[str, object]) -> dict[str, str | None]:
    """Checks the sbatch options, and refuses those that are ours to set."""
    given = values.get("sbatch") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"sbatch: {given!r} is not a mapping of sbatch options")
    options = {key: None if value is None else str(value) for key, value in given.items()}
    problems = [f"--sbatch {key}: {_OWNED[key]}" for key in options if key in _OWNED]
    problems += [
        f"--sbatch {key}={value}: not an sbatch option: write KEY=VALUE, or KEY alone, on one line"
        for key, value in options.items()
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or (value is not None and not value.isprintable())
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return options


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, n=1)
    return f"unknown template key {key!r}" + (f": did you mean {near[0]!r}?" if near else "")
