"""What stands between a person and a sweep here: every check says what it found and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from wandb_submit.doctor import cluster, home, login, machine, probe, python
from wandb_submit.doctor.finding import Finding

__all__ = ["Finding", "examine"]


def examine(*, with_probe: bool) -> Iterator[Finding]:
    """Checks one topic after the other, and changes nothing.

    Args:
        with_probe: whether to look from a compute node, too, by a job of one task.
    """
    yield from cluster.findings()
    yield from machine.findings()
    yield from home.findings()
    yield from python.findings()
    yield from login.findings()
    if with_probe:
        yield from probe.findings()
