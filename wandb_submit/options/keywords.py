"""The keywords of `submit` that are options of sbatch's, and those that are nothing, with what they may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from wandb_submit.errors import ConfigError
from wandb_submit.options import sbatch

_COMMANDS_OWN = ("dry_run", "json", "wait", "detach", "debug")
_ELSEWHERE = {
    "template": "templates",
    "gpu": "gpus_per_task",
    "num_gpus": "gpus_per_task",
    "cpus": "cpus_per_task",
    "memory": "mem",
    "time_limit": "time",
    "timeout": "time",
    "tasks": "array",
    "agents": "array",
}


def sbatch_flags(given: Mapping[str, object], known: Collection[str]) -> dict[str, str]:
    """Reads keywords that have no parameter of their own.

    Args:
        given: the keywords with their values.
        known: the names of the parameters that there are.

    Raises:
        ConfigError: naming every keyword that is no option of sbatch's with a flag of its own, one per line.
    """
    if problems := [_problem(name, known) for name in given if name not in sbatch.FLAGS]:
        raise ConfigError("\n".join(problems))
    return {name: str(value) for name, value in given.items() if value is not None}


def _problem(name: str, known: Collection[str]) -> str:
    option = name.replace("_", "-")
    said = f"submit() has no keyword {name!r}"
    if name in _COMMANDS_OWN:
        return f"{said}: it is an option of the command's alone"
    if option in sbatch.OWNED:
        return f"{said}: {sbatch.OWNED[option]}"
    near = difflib.get_close_matches(name.lower(), [*known, *sbatch.FLAGS], n=1, cutoff=0.75)
    meant = _ELSEWHERE.get(name) or next(iter(near), None)
    other = f"an option of sbatch's is written as sbatch={{{option!r}: …}}"
    return f"{said}: did you mean {meant!r}? ({other})" if meant else f"{said}: {other}"
