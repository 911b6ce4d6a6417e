"""Why an agent left, and whether that is as it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Why an agent left.

    Attributes:
        ok: whether it left as it should: the sweep over, its count reached, or asked to.
        runs: how many runs it finished.
        requeue: whether its task should begin anew: there is work left, but no time.
    """

    reason: str
    ok: bool
    runs: int
    requeue: bool = False
