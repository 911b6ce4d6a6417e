"""Names that no option has, of a keyword of `submit` or a key of a template, with what they may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from wandb_submit.errors import ConfigError
from wandb_submit.options import sbatch
from wandb_submit.options.table import TABLE

_SUBMITS_OWN = ("function", "offline", "clip")
_COMMANDS_OWN = ("dry_run", "json", "wait", "detach", "debug")
_ELSEWHERE = {
    "template": ("templates",),
    "gpu": ("gpus_per_task",),
    "gpus": ("gpus_per_task", "gpu_ids"),  # a number, or names
    "num_gpus": ("gpus_per_task",),
    "cpus": ("cpus_per_task",),
    "memory": ("mem",),
    "time_limit": ("time",),
    "timeout": ("time",),
    "tasks": ("array",),
    "agents": ("array",),
}


def check(given: Iterable[str]) -> None:
    """Makes sure that keywords are options.

    Raises:
        ConfigError: naming every keyword that is none, one per line.
    """
    if problems := [_problem(name) for name in given if name not in TABLE]:
        raise ConfigError("\n".join(problems))


def unknown_key(key: str, keys: Collection[str]) -> str:
    """What to say of a template's key that is none."""
    meant = _meant(key, keys, cutoff=0.6)
    return f"unknown template key {key!r}" + (f": did you mean {meant}?" if meant else "")


def _problem(name: str) -> str:
    option = name.replace("_", "-")
    said = f"submit() has no keyword {name!r}"
    if name in _COMMANDS_OWN:
        return f"{said}: it is an option of the command's alone"
    if option in sbatch.OWNED:
        return f"{said}: {sbatch.OWNED[option]}"
    meant = _meant(name, [*TABLE, *_SUBMITS_OWN], cutoff=0.75)
    other = f"an option of sbatch's is written as sbatch={{{option!r}: …}}"
    return f"{said}: did you mean {meant}? ({other})" if meant else f"{said}: {other}"


def _meant(name: str, names: Collection[str], *, cutoff: float) -> str:
    """Which of some names one may stand for, in quotes; empty if none is near."""
    plain = {known.replace("-", "_"): known for known in names}
    word = name.lower().replace("-", "_")
    near = [known for known in _ELSEWHERE.get(word, ()) if known in plain]
    near = near or difflib.get_close_matches(word, plain, n=1, cutoff=cutoff)
    return " or ".join(repr(plain[known]) for known in near)
