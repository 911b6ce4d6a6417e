"""From options (flags, Python's, templates') to a checked `SubmissionSpec`, with every problem in one message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from wandb_submit.errors import ConfigError
from wandb_submit.options import activation, keywords, ranks, sbatch, table, templates, values
from wandb_submit.options.table import Options
from wandb_submit.spec import DEFAULT_GRACE_S, Activation, ArraySpec, Preload, SubmissionSpec

DefaultArray: TypeAlias = Callable[[SubmissionSpec], ArraySpec]
DefaultGpus: TypeAlias = Callable[[SubmissionSpec], int | None]

_MOST_DELAY_S = 65535  # https://slurm.schedmd.com/sbatch.html#OPT_signal


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
        options: what was asked for; what is `None` was not.
        workdir: the folder that runs start in.
        pick_executor: turns `auto` or a name into the executor's name.
        default_array: the array for a specification, which is of one task, where none was asked for.
        default_gpus: the GPUs of each task on a workstation, where no number was asked for; by default none, and none
            are hidden.
        function: what the function uses that runs call; `None` where they run the sweep's command.

    Raises:
        ConfigError: naming every problem, one per line.
    """
    merged, problems = _merged(options)
    read, wrong = table.checked(merged)
    problems += wrong
    try:
        executor = pick_executor(read.get("executor", "auto"))
    except ConfigError as error:
        problems.append(str(error))
        executor = None
    problems += _that_do_not_go_together(read, executor, function=function is not None)
    if problems or executor is None:
        raise ConfigError("\n".join(problems))
    spec = _spec(read, executor, workdir, function)
    misfits = [*ranks.problems(spec), *_that_does_not_fit(spec)]
    if misfits:
        raise ConfigError("\n".join(misfits))
    if spec.gpus_per_task is None and spec.executor == "local":
        spec = dataclasses.replace(spec, gpus_per_task=default_gpus(spec))
    return spec if "array" in read else dataclasses.replace(spec, array=default_array(spec))


def executor_asked_for(options: Options) -> str:
    """The name of the executor that options and their templates ask for, as it was written; `auto` if none does."""
    return str(_merged(options)[0].get("executor", "auto"))


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
        {"templates": [name]},
        workdir=Path.cwd(),
        pick_executor=pick_executor,
        default_array=lambda spec: spec.array,
    )


def _merged(options: Options) -> tuple[dict[str, object], list[str]]:
    """Lays options over their templates; returns them by name, and what is wrong with their names."""
    layers, problems = [], []
    for template in templates.asked_for(options):
        known, wrong = _named(templates.load(template))
        layers.append(sbatch.gather(known, no_value=sbatch.NO_VALUE))
        problems += wrong
    given = {name: value for name, value in options.items() if value is not None and name != "templates"}
    layers.append(sbatch.gather(given))
    return templates.merge(map(_in_lists, layers)), problems


def _named(template: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """A template's values by the options' names, and what is wrong with its keys."""
    keys = {name.replace("_", "-"): name for name, option in table.TABLE.items() if option.template}
    known = {keys[key]: value for key, value in template.items() if key in keys}
    return known, [keywords.unknown_key(key, keys) for key in template if key not in keys]


def _in_lists(layer: Mapping[str, object]) -> dict[str, object]:
    """Makes lists and dictionaries of what is joined with the other layers' values, and lists of nothing else."""

    def as_merged(name: str, value: object) -> object:
        several = list(value) if isinstance(value, list | tuple) else None
        if table.TABLE[name].many:
            return [value] if several is None else several
        if isinstance(value, Mapping):
            return dict(value)
        return value if several is None else tuple(several)

    return {name: as_merged(name, value) for name, value in layer.items()}


def _that_do_not_go_together(read: Mapping[str, Any], executor: str | None, *, function: bool) -> list[str]:
    problems = []
    if executor == "slurm":
        ours = [name for name in ("gpu_ids", "include_busy") if read.get(name)]
        problems += [
            f"{table.flag(name)} works only with --executor local. On Slurm, use --gpus-per-task." for name in ours
        ]
    agent = read.get("agent", values.AGENTS[0])
    if agent != values.AGENTS[0]:
        if function or read.get("preload"):
            what = "a function" if function else "--preload"
            problems.append(f"--agent {agent}: {what} needs the native agent; leave --agent out")
        if "min_time_per_run" in read:
            problems.append("--min-time-per-run: `wandb agent` does not look at the time; leave it or --agent out")
    return problems


def _spec(read: Mapping[str, Any], executor: str, workdir: Path, function: Preload | None) -> SubmissionSpec:
    gpu_type, gpus = read.get("gpus_per_task", (None, None))
    time, time_min = read.get("time", (None, None))
    extra = read.get("sbatch", {})
    runs_ranks = ranks.ranks(read.get("nodes"), read.get("ranks_per_node"))
    preload = _preload(read.get("preload"), function)
    return SubmissionSpec(
        executor=executor,
        array=read.get("array", ArraySpec(count=1)),
        workdir=workdir,
        gpus_per_task=gpus,
        gpus=read.get("gpu_ids", ()),
        include_busy=read.get("include_busy", False),
        gpu_type=gpu_type if gpus else None,
        cpus_per_task=read.get("cpus_per_task"),
        mem=read.get("mem"),
        time_min=time_min,
        time=time,
        job_name=read.get("job_name"),
        sbatch=extra,
        agents_per_task=read.get("agents_per_task", 1),
        ranks=runs_ranks,
        agent=read.get("agent", values.AGENTS[0]),
        count=read.get("count"),
        grace_s=read.get("grace", DEFAULT_GRACE_S),
        # Slurm would refuse, after the runs have been ended for it.
        max_requeues=0 if "no-requeue" in extra else read.get("max_requeues"),
        min_run_s=read.get("min_time_per_run", 0) * 60.0,
        activation=_activation(read, workdir),
        preload=None if preload and not preload.required and runs_ranks else preload,
        function=function is not None,
    )


def _activation(read: Mapping[str, Any], workdir: Path) -> Activation:
    python = read.get("python")
    return Activation(
        env=read.get("env", {}),
        setup=read.get("setup", ()),
        teardown=read.get("teardown", ()),
        python=None if python is None else activation.interpreter(python, workdir),
    )


def _preload(asked: tuple[str, ...] | None, guess: Preload | None) -> Preload | None:
    if asked is None:
        return guess if guess and guess.modules else None
    return Preload(modules=asked, folders=guess.folders if guess else ()) if asked else None


def _that_does_not_fit(spec: SubmissionSpec) -> list[str]:
    """What to say where a task has no time for a run before it is told to end it, or Slurm cannot tell it so early."""
    if spec.executor == "slurm" and spec.signal_delay_s > _MOST_DELAY_S:
        most = int(spec.grace_s) - (spec.signal_delay_s - _MOST_DELAY_S)
        return [f"--grace {spec.grace_s:.0f} is more than Slurm can give. Ask for at most {most} s"]
    if spec.time_min is not None and (why := spec.why_too_short(spec.time_min)):
        return [f"--time {spec.time_min} min {why}. Ask for at least {spec.least_time_min} minutes"]
    return []
