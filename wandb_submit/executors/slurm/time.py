"""The time limit that Slurm will give a job's tasks, and what to say of one that does not fit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

from wandb_submit.errors import ConfigError
from wandb_submit.executors.slurm import site
from wandb_submit.executors.slurm.site import NodeGroup
from wandb_submit.options.values import time_min
from wandb_submit.spec import SubmissionSpec

_FOR_EVER = "where sbatch takes it, tasks may wait for ever"


def notes(spec: SubmissionSpec) -> list[str]:
    """What a person should know of their tasks' time limit; asks Slurm once, and once more about a QOS that is named.

    Without `--time` it is the DefaultTime of the partition that a task starts in, or its MaxTime where there is none
    (https://slurm.schedmd.com/slurm.conf.html#OPT_DefaultTime).

    Raises:
        ConfigError: if it leaves no time for a run.
    """
    named = spec.sbatch.get("partition") or os.environ.get("SBATCH_PARTITION")
    groups = {group.partition: group for group in site.node_groups(named) if named or group.is_default}
    if spec.time is not None:
        least_min, said = spec.time_min or math.inf, []
    else:
        limits = list(_defaults(list(groups.values())))
        for minutes, words in limits:
            _check(spec, minutes, f"--time was not given, and a task's limit would be {words}", list(groups.values()))
        least_min = min((minutes for minutes, _ in limits), default=0)
        finite = [words for minutes, words in limits if minutes < math.inf]
        said = [f"--time was not given: a task's limit is {' or '.join(finite)}"] if finite else []
    if at_least := spec.sbatch.get("time-min"):
        _check(spec, time_min("--sbatch time-min", at_least), f"--sbatch time-min={at_least}", [])
    return [*said, *_over_partitions(list(groups.values()), least_min), *_over_qos(spec, least_min)]


def _defaults(groups: Sequence[NodeGroup]) -> Iterator[tuple[float, str]]:
    """The limits, in minutes and in words, that a task without one may have, by where it starts."""
    if typed := os.environ.get("SBATCH_TIMELIMIT"):
        minutes = site.minutes(typed)
        yield math.inf if minutes is None else minutes, f"{typed} (SBATCH_TIMELIMIT)"
        return
    for group in groups:
        text, name = (group.limit, "MaxTime") if group.default == "n/a" else (group.default, "DefaultTime")
        minutes = site.minutes(text)
        yield math.inf if minutes is None else minutes, f"{text} ({name} of partition {group.partition})"


def _check(spec: SubmissionSpec, minutes: float, words: str, groups: Sequence[NodeGroup]) -> None:
    if minutes < math.inf and (why := spec.why_too_short(int(minutes))):
        most = f" (allowed: {_limits(groups)})" if groups else ""
        raise ConfigError(f"{words}: that {why}. Ask with --time for at least {spec.least_time_min} minutes{most}")


def _over_partitions(groups: Sequence[NodeGroup], time_min: float) -> Iterator[str]:
    """Yields a word if the limit is over that of every partition that the job may run in.

    Some sites refuse such a job, others take it and never start it (EnforcePartLimits, see
    https://slurm.schedmd.com/slurm.conf.html#OPT_EnforcePartLimits).
    """
    if groups and all(group.limit_min is not None and group.limit_min < time_min for group in groups):
        words = ", ".join(f"{group.partition} ({group.limit})" for group in groups)
        yield f"--time is over the limit of partition {words}: {_FOR_EVER}"


def _over_qos(spec: SubmissionSpec, time_min: float) -> Iterator[str]:
    """The same for the QOS that the job names; it does not shorten the partition's default (seen on 22.05)."""
    name = spec.sbatch.get("qos") or os.environ.get("SBATCH_QOS")
    wall = site.max_wall(name) if name else ""
    most = site.minutes(wall)
    if most is not None and most < time_min:
        yield f"the time limit is over the MaxWall of QOS {name} ({wall}): {_FOR_EVER}; ask for less with --time"


def _limits(groups: Sequence[NodeGroup]) -> str:
    return ", ".join(f"{group.partition} {group.limit}" for group in groups)
