"""From what was typed (flags and templates) to a checked `SubmissionSpec`, with every problem in one message."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from wandb_submit.errors import ConfigError
from wandb_submit.options import activation, ranks, templates
from wandb_submit.options import sbatch as sbatch_options
from wandb_submit.spec import (
    DEFAULT_GRACE_S,
    ArraySpec,
    Preload,
    SubmissionSpec,
    check_mem,
    parse_gpu_names,
    parse_gpus,
    parse_limit_min,
    parse_seconds,
    parse_time_min,
)

_T = TypeVar("_T")
DefaultArray: TypeAlias = Callable[[SubmissionSpec], ArraySpec]
DefaultGpus: TypeAlias = Callable[[SubmissionSpec], int | None]

AGENTS = ("native", "wandb")
_MOST_DELAY_S = 65535  # https://slurm.schedmd.com/sbatch.html#OPT_signal
_KEYS = (
    "executor",
    "array",
    "gpus-per-task",
    "gpus",
    "include-busy",
    "cpus-per-task",
    "mem",
    "time",
    "agents-per-task",
    "nodes",
    "ranks-per-node",
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
    *sbatch_options.FLAGS,
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
    gpus: str | None = None
    include_busy: bool | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    time: str | None = None
    agents_per_task: int | None = None
    nodes: int | None = None
    ranks_per_node: int | None = None
    agent: str | None = None
    preload: Sequence[str] | None = None
    count: int | None = None
    grace: float | str | None = None
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
            "gpus": self.gpus,
            "include-busy": self.include_busy,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.mem,
            "time": self.time,
            "agents-per-task": self.agents_per_task,
            "nodes": self.nodes,
            "ranks-per-node": self.ranks_per_node,
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
            "sbatch": dict(sbatch_options.key_value(text) for text in self.sbatch) or None,
            **self.flags,
        }
        given = {key: value for key, value in own.items() if value is not None}
        layers = [
            _lists(sbatch_options.gather(templates.load(name), no_value=sbatch_options.NO_VALUE))
            for name in self.templates
        ]
        return templates.merge([*layers, sbatch_options.gather(given)])


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
    default_gpus: DefaultGpus = lambda spec: None,
    function: Preload | None = None,
) -> SubmissionSpec:
    """Checks options and fills in their defaults.

    Args:
        options: what was asked for.
        workdir: the folder that runs start in.
        pick_executor: turns `auto` or a name into the executor's name.
        default_array: the array for a specification, which is of one task, where none was asked for.
        default_gpus: the GPUs of each task on a workstation, where no number was asked for; by default none, and none
            are hidden.
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
    pool = problems.check(lambda: _own_gpus(values, executor)) or ((), False)
    cpus = problems.check(lambda: _number(values, "cpus-per-task", minimum=1))
    agents_per_task = problems.check(lambda: _number(values, "agents-per-task", minimum=1)) or 1
    nodes = problems.check(lambda: _number(values, "nodes", minimum=1))
    ranks_per_node = problems.check(lambda: _number(values, "ranks-per-node", minimum=1))
    agent = problems.check(lambda: _agent(values, function=function is not None))
    preload = problems.check(lambda: _preload(values, function))
    count = problems.check(lambda: _number(values, "count", minimum=1))
    grace_s = problems.check(lambda: parse_seconds(values["grace"], "grace") if "grace" in values else None)
    max_requeues = problems.check(lambda: _number(values, "max-requeues", minimum=0))
    shortest = values.get("min-time-per-run")
    min_run_min = problems.check(lambda: 0 if shortest is None else parse_time_min(str(shortest), "min-time-per-run"))
    mem = problems.check(lambda: check_mem(str(values["mem"])) if "mem" in values else None)
    time_min = problems.check(lambda: parse_limit_min(str(values["time"])) if "time" in values else None)
    active = problems.check(lambda: activation.read(values, workdir))
    sbatch = problems.check(lambda: sbatch_options.check(values)) or {}
    problems.raise_if_any()
    assert executor is not None  # noqa: S101 a problem would have been raised
    assert active is not None  # noqa: S101 likewise
    runs_ranks = ranks.ranks(nodes, ranks_per_node)
    spec = SubmissionSpec(
        executor=executor,
        array=array or ArraySpec(count=1),
        workdir=workdir,
        gpus_per_task=gpus,
        gpus=pool[0],
        include_busy=pool[1],
        gpu_type=gpu_type if gpus else None,
        cpus_per_task=cpus,
        mem=mem,
        time_min=time_min,
        time=str(values["time"]).strip() if "time" in values else None,
        sbatch=sbatch,
        agents_per_task=agents_per_task,
        ranks=runs_ranks,
        agent=agent or AGENTS[0],
        count=count,
        grace_s=DEFAULT_GRACE_S if grace_s is None else grace_s,
        # Slurm would refuse, after the runs have been ended for it.
        max_requeues=0 if "no-requeue" in sbatch else max_requeues,
        min_run_s=(min_run_min or 0) * 60.0,
        activation=active,
        preload=None if preload and not preload.required and runs_ranks else preload,
        function=function is not None,
    )
    problems.check(lambda: ranks.check(spec))
    problems.check(lambda: _check_fit(spec))
    problems.raise_if_any()
    if spec.gpus_per_task is None and spec.executor == "local":
        spec = dataclasses.replace(spec, gpus_per_task=default_gpus(spec))
    return spec if array else dataclasses.replace(spec, array=default_array(spec))


def check_template(name: str, pick_executor: Callable[[str], str]) -> SubmissionSpec:
    """Checks one template by itself, as if a submission named nothing else; returns what that would be.

    Args:
        name: its name or file.
        pick_executor: turns `auto` or a name into the executor's name.

    Raises:
        NotFoundError: if there is none.
        ConfigError: naming every problem, one per line.
    """
    return build_spec(
        Options(templates=(name,)),
        workdir=Path.cwd(),
        pick_executor=pick_executor,
        default_array=lambda spec: spec.array,
    )


def _number(values: Mapping[str, object], key: str, *, minimum: int) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < minimum:
        raise ConfigError(f"--{key} {value!r} is not a whole number of at least {minimum}")
    return int(str(value))


def _own_gpus(values: Mapping[str, object], executor: str | None) -> tuple[tuple[str, ...], bool]:
    """Which of this machine's GPUs to choose from, and whether busy ones will do."""
    names, busy = values.get("gpus"), values.get("include-busy", False)
    if executor == "slurm" and (names is not None or busy):
        option = (
            "--gpus names GPUs of this machine" if names is not None else "--include-busy is for this machine's GPUs"
        )
        raise ConfigError(
            f"{option}, and Slurm chooses its own: say how many with --gpus-per-task "
            "(sbatch's --gpus, which is a total, is --sbatch gpus=N)"
        )
    if str(busy).lower() not in ("true", "false"):
        raise ConfigError(f"include-busy {busy!r} is neither true nor false")
    text = ",".join(map(str, names)) if isinstance(names, list) else names
    return () if text is None else parse_gpu_names(str(text)), str(busy).lower() == "true"


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


def _check_fit(spec: SubmissionSpec) -> None:
    """Makes sure that a task has time for a run before it is told to end it, and that Slurm tells it so early."""
    if spec.executor == "slurm" and spec.signal_delay_s > _MOST_DELAY_S:
        most = int(spec.grace_s) - (spec.signal_delay_s - _MOST_DELAY_S)
        raise ConfigError(f"--grace {spec.grace_s:.0f} is more than Slurm can give. Ask for at most {most} s")
    if spec.time_min is not None and (why := spec.why_too_short(spec.time_min)):
        raise ConfigError(f"--time {spec.time_min} min {why}. Ask for at least {spec.least_time_min} minutes")


def _variable(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def _lists(layer: Mapping[str, object]) -> dict[str, object]:
    """Takes a template's single command for a list of one, so that the templates' commands are joined."""
    one = {key: [layer[key]] for key in ("setup", "teardown") if isinstance(layer.get(key), str)}
    return {**layer, **one}


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, n=1)
    return f"unknown template key {key!r}" + (f": did you mean {near[0]!r}?" if near else "")
