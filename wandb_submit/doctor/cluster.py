"""Slurm as it is here: its commands, its limits, its partitions."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.errors import UnavailableError, WandbSubmitError
from wandb_submit.executors.slurm import cli, site
from wandb_submit.executors.slurm.refusals import Topic, slurms_words
from wandb_submit.spec import DEFAULT_GRACE_S
from wandb_submit.system import process

_COMMANDS = ("sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol")
_TIMEOUT_S = 20.0


def findings(partition: str | None) -> Iterator[Finding]:
    """Checks Slurm; where there is none, that is no failure, as the local executor needs none.

    Args:
        partition: the partition to look at; `None` is all.
    """
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if len(missing) == len(_COMMANDS):
        yield Finding(topic="Slurm", words="not here; --executor local runs sweeps on this machine")
        return
    if missing:
        yield Finding(
            topic="Slurm",
            words=f"not on PATH: {', '.join(missing)}",
            verdict=Verdict.FAILED,
            remedy="put the folder of Slurm's commands on PATH, or `module load slurm`",
        )
        return
    try:
        config = _asked("scontrol", "show", "config")
    except WandbSubmitError as error:
        yield Finding(
            topic="Slurm",
            words=str(error),
            verdict=Verdict.FAILED,
            remedy="see whether `sinfo` works; if Slurm is elsewhere, name its slurm.conf in SLURM_CONF; "
            "if you do not need Slurm, add --executor local, here and when you submit",
        )
        return
    yield Finding(topic="Slurm", words=f"{_setting(config, 'SLURM_VERSION')}, its controller answers")
    yield from _limits(config)
    yield from _accounting(config)
    yield from _partitions(partition)


def _limits(config: str) -> Iterator[Finding]:
    most = cli.parse_max_array_size(config)
    yield Finding(topic="arrays", words=f"MaxArraySize {most or 'not told'}; larger ones become several arrays")
    kill_wait_s = cli.parse_kill_wait_s(config)
    if kill_wait_s is not None and kill_wait_s < DEFAULT_GRACE_S:
        yield Finding(
            topic="grace",
            words=f"Slurm kills what it cancels after {kill_wait_s} s (KillWait), before --grace is over "
            f"({DEFAULT_GRACE_S:.0f} s by default)",
            verdict=Verdict.WARNING,
            remedy=f"let runs save within {kill_wait_s} s of SIGTERM; at the time limit they have all of --grace",
        )


def _accounting(config: str) -> Iterator[Finding]:
    kind = _setting(config, "AccountingStorageType")
    if kind in ("accounting_storage/none", "(null)", ""):
        yield Finding(
            topic="accounting",
            words="none: how a task ended is read from the submission's folder once Slurm has forgotten it",
        )
        return
    yield Finding(topic="accounting", words="there")
    limits = site.own_limits()
    for limit in limits:
        yield Finding(topic="limits", words=limit)
    if not limits:
        yield Finding(topic="limits", words="none of your accounts and QOS has any, as far as sacctmgr tells you")


def _partitions(partition: str | None) -> Iterator[Finding]:
    groups = site.node_groups(partition)
    if not groups:
        yield Finding(
            topic="partitions",
            words="sinfo names none that you may see" if partition is None else f"sinfo knows no partition {partition}",
            verdict=Verdict.FAILED,
            remedy=site.choices(Topic.PARTITION) or "ask the site which one is yours, and name it: --partition",
        )
    for group in groups:
        default = ", default" if group.is_default else ""
        unasked = "" if group.default in ("n/a", group.limit) else f" (without --time {group.default})"
        yield Finding(
            topic=f"partition {group.partition}", words=f"{group.shape}; time limit {group.limit}{unasked}{default}"
        )
    if groups and not any("gpu" in group.gres for group in groups):
        yield Finding(topic="partitions", words="none has GPUs: --gpus-per-task will be refused")


def _asked(*argv: str) -> str:
    answer = process.run(argv, timeout_s=_TIMEOUT_S, env=cli.plain_environment(os.environ))
    if answer.returncode != 0:
        raise UnavailableError(f"{argv[0]} fails: {slurms_words(answer.stderr)}")
    return answer.stdout


def _setting(config: str, name: str) -> str:
    found = re.search(rf"^{name}\s*=\s*(.*)$", config, re.MULTILINE)
    return found[1].strip() if found else ""
