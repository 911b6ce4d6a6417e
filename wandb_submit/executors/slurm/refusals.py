"""What Slurm's commands say on their way out, in words that tell a person what to do; nothing is called.

Slurm's own texts are those of `slurm_strerror` (src/common/slurm_errno.c, 20.11 to 25.05) and the names of limits,
which sbatch writes on lines of their own.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable

from wandb_submit.errors import RefusedError, UnavailableError, WandbSubmitError


class Topic(enum.Enum):
    """What a refusal is about, where the site knows which values would do."""

    PARTITION = enum.auto()
    ACCOUNT = enum.auto()
    QOS = enum.auto()
    NODES = enum.auto()
    FEATURE = enum.auto()
    TIME = enum.auto()


class LimitError(RefusedError):
    """A limit of the site's stands in the way: a smaller array may be within it."""


class NoNodeError(RefusedError):
    """No node that takes jobs now has all that a task asks for."""


# sbatch's refusals, what a person can do about them, and what they are about; the first that fits counts.
_REFUSALS: tuple[tuple[str, str, Topic | None], ...] = (
    (r"invalid partition|no partition specified", "no such partition, see --partition", Topic.PARTITION),
    (r"not permitted to use this partition", "that partition is not for you, see --partition", Topic.PARTITION),
    (r"required partition not available", "that partition is closed now, see --partition", Topic.PARTITION),
    (r"invalid account", "no such account for you, or not in this partition, see --account", Topic.ACCOUNT),
    (r"invalid qos|qos.*not (valid|allowed)", "no such QOS for you, see --qos", Topic.QOS),
    (
        r"memory specification can not be satisfied|memory required by task is not available",
        "no node has that much memory: lower --mem",
        Topic.NODES,
    ),
    (
        r"node configuration is not available|partition configuration not available|more processors requested",
        "no node has all of it: see --gpus-per-task, --cpus-per-task, --mem, --gres and --constraint",
        Topic.NODES,
    ),
    (r"invalid (generic resource|gres|tres)", "no node has such GPUs, see --gpus-per-task and --gres", Topic.NODES),
    (
        r"invalid node name|node count|nodes not in this partition",
        "no such nodes, see --nodelist and --exclude: `sinfo -N` lists them",
        None,
    ),
    (r"invalid feature", "no node has that feature, see --constraint", Topic.FEATURE),
    (r"time limit", "the limit is above what the partition allows: lower --time", Topic.TIME),
    (r"invalid job array specification", "the array is larger than the site's MaxArraySize: lower --array", None),
    (r"reservation", "you cannot use that reservation: `scontrol show reservation` lists them", None),
    (r"invalid license", "the cluster has no such licenses: `scontrol show licenses` lists them", None),
    (r"invalid wckey", "this site wants a wckey: --sbatch wckey=NAME", None),
    (r"unrecognized option|invalid option", "this sbatch does not know that option", None),
)
# Limits, which a smaller array may be within.
_LIMITS: tuple[tuple[str, str], ...] = (
    (r"submitjob|maxjobcount", "you may not have that many jobs queued: lower --array"),
    (
        r"violates accounting/qos policy",
        "over a limit of your account or QOS, on jobs, sizes or time: lower --array, what a task asks for, or --time",
    ),
)
_UNREACHABLE = re.compile(
    r"unable to contact|connection refused|timed out|communication connection failure|temporarily unable|"
    r"zero bytes were transmitted|resource temporarily unavailable|rate limit exceeded|standby mode",
    re.IGNORECASE,
)
# What Slurm says itself, unlike a greeting of the site's.
_SLURMS_OWN = re.compile(r"(sbatch|srun|scancel|squeue|allocation failure): (error: )?(?=\S)")


def refusal(text: str, choices: Callable[[Topic], str] = lambda topic: "") -> WandbSubmitError:
    """Translates what sbatch said on its way out.

    Args:
        text: what it said, with whatever else the site prints around it.
        choices: tells the values that the site has, as half a sentence, or nothing.

    Returns:
        A `LimitError` where a smaller array may do, `UnavailableError` where the same may do later.
    """
    words = slurms_words(text)
    if _UNREACHABLE.search(words):
        return away(words)
    for pattern, advice in _LIMITS:
        if re.search(pattern, words, re.IGNORECASE):
            return LimitError(f"Slurm refuses the job: {words}. {_sentence(advice)}")
    for pattern, advice, topic in _REFUSALS:
        if re.search(pattern, words, re.IGNORECASE):
            values = choices(topic) if topic else ""
            there = f" ({values})" if values else ""
            kind = NoNodeError if topic is Topic.NODES else RefusedError
            return kind(f"Slurm refuses the job: {words}. {_sentence(advice)}{there}")
    return RefusedError(f"Slurm refuses the job: {words}")


def away(words: str) -> UnavailableError:
    """What to say to somebody who submits while Slurm does not answer."""
    return UnavailableError(f"Slurm does not answer now: {words}; to run on this machine meanwhile: --executor local")


def slurms_words(text: str) -> str:
    """What Slurm said, on one line: its own lines if there are any among those of the site."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line for line in lines if _SLURMS_OWN.match(line)]
    said = [_SLURMS_OWN.sub("", line, count=1) for line in own or lines]
    return "; ".join(dict.fromkeys(said))[:400] or "it gave no reason"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"
