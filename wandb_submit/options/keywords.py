"""The keywords of `submit` that are nothing, with what they may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from wandb_submit.errors import ConfigError
from wandb_submit.options import sbatch
from wandb_submit.options.table import TABLE

_SUBMITS_OWN = ("function", "offline", "clip")
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


def check(given: Iterable[str]) -> None:
    """Makes sure that keywords are options.

    Raises:
        ConfigError: naming every keyword that is none, one per line.
    """
    if problems := [_problem(name) for name in given if name not in TABLE]:
        raise ConfigError("\n".join(problems))


def _problem(name: str) -> str:
    option = name.replace("_", "-")
    said = f"submit() has no keyword {name!r}"
    if name in _COMMANDS_OWN:
        return f"{said}: it is an option of the command's alone"
    if option in sbatch.OWNED:
        return f"{said}: {sbatch.OWNED[option]}"
    near = difflib.get_close_matches(name.lower(), [*TABLE, *_SUBMITS_OWN], n=1, cutoff=0.75)
    meant = _ELSEWHERE.get(name) or next(iter(near), None)
    other = f"an option of sbatch's is written as sbatch={{{option!r}: …}}"
    return f"{said}: did you mean {meant!r}? ({other})" if meant else f"{said}: {other}"
