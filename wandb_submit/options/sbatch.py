"""The options that are sbatch's: which have a flag of their own, and which are not for people to set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wandb_submit.errors import ConfigError

# sbatch options that have a flag of their own here; the rest goes through `--sbatch KEY=VALUE`.
FLAGS = (
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
OWNED = {
    "array": "use --array",
    "gpus-per-task": "use --gpus-per-task",
    "cpus-per-task": "use --cpus-per-task",
    "mem": "use --mem",
    "time": "use --time",
    "chdir": "the runs start in the folder that you submit from",
    "error": "each task's log is in the submission's folder; see `wandb-submit logs`",
    "output": "each task's log is in the submission's folder; see `wandb-submit logs`",
    "job-name": "use --job-name",
    "nodes": "use --nodes",
    "ntasks": "use --nodes and --ranks-per-node",
    "ntasks-per-node": "use --ranks-per-node",
    "open-mode": "the logs of requeued tasks are appended",
    "signal": "the agent is warned before the time limit",
    "wrap": "the script is ours",
    "test-only": "use --dry-run",
    "parsable": "the job's id is in the submission's record",
    "wait": "use --wait",
    "clusters": "set SLURM_CLUSTERS, which all of Slurm's commands heed",
    "cluster": "set SLURM_CLUSTERS, which all of Slurm's commands heed",
}
# How a template says that an option has no value; its values are read as text.
NO_VALUE = (None, "", "null", "~", "true")


def key_value(text: str) -> tuple[str, str | None]:
    """Reads `KEY=VALUE`, or `KEY` alone, with or without sbatch's dashes."""
    key, equals, value = text.removeprefix("--").partition("=")
    return key.strip().replace("_", "-"), value if equals else None


def gather(layer: Mapping[str, object], no_value: Sequence[object] = ()) -> dict[str, object]:
    """Moves the sbatch options that have flags of their own to the others, so that there is one place for each."""
    rest = {key: value for key, value in layer.items() if key not in FLAGS and key != "sbatch"}
    free = layer.get("sbatch")
    if free is not None and not isinstance(free, Mapping):
        return {**rest, "sbatch": free}  # refused later, with the other problems
    named = {key: value for key, value in layer.items() if key in FLAGS}
    others = {str(key).replace("_", "-"): None if value in no_value else value for key, value in (free or {}).items()}
    options = {**others, **named}
    return {**rest, "sbatch": options} if options else rest


def checked(option: str, given: object) -> dict[str, str | None]:
    """Checks sbatch options, and refuses those that are ours to set.

    Raises:
        ConfigError: naming every problem, one per line.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{option} {given!r} is not a mapping of sbatch options: write {{KEY: VALUE}}")
    options = {str(key): None if value is None else str(value) for key, value in given.items()}
    problems = [f"{option} {key}: {OWNED[key]}" for key in options if key in OWNED]
    problems += [
        f"{option} {key}={value}: not an sbatch option: write KEY=VALUE, or KEY alone, on one line"
        for key, value in options.items()
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or (value is not None and not value.isprintable())
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return options
