"""What stands between a person and a sweep here: every check says what it found and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wandb_submit.doctor import cluster, home, login, machine, offline_server, probe, python, wandb_dir
from wandb_submit.doctor.finding import Finding

__all__ = ["Finding", "examine"]


def examine(*, slurm: bool, with_probe: bool, place: Mapping[str, str]) -> Iterator[Finding]:
    """Checks one topic after the other, and changes nothing.

    Args:
        slurm: whether the cluster is of interest.
        with_probe: whether to look from a compute node, too, by a job of one task.
        place: where that job goes, by the names of sbatch's options: `partition`, `account`, `qos`.
    """
    if slurm:
        yield from cluster.findings(place.get("partition"))
    yield from machine.findings()
    yield from home.findings(slurm=slurm)
    yield from wandb_dir.findings()
    yield from offline_server.findings()
    yield from python.findings()
    yield from login.findings()
    if with_probe:
        yield from probe.findings(place)
