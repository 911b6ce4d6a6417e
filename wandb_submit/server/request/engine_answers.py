"""What the search process answers, as the server reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A point of the search space, as W&B writes a run's config: {"lr": {"value": 0.1}}.
Point = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """The next points.

    Attributes:
        points: in their order.
        next_block: where a grid goes on.
        done: whether a grid has no more.
        remark: what the server's log should tell; empty if there is nothing.
    """

    points: tuple[Point, ...] = ()
    next_block: int = 0
    done: bool = False
    remark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is wrong with a proposed sweep.

    Attributes:
        errors: why it cannot be searched; empty if it can.
        warnings: what else W&B's schema says against it.
        grid_size: how many points its grid has.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    grid_size: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """What is to be known of a sweep before it is made.

    Attributes:
        verdict: whether it can be made.
        drawn: its first points, if it can.
        first: the number of the first of them.
        outline: of its config, if that is large.
    """

    verdict: Verdict
    drawn: Drawn
    first: int = 1
    outline: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """What is to be done about the runs of a sweep.

    Attributes:
        stop: those to stop.
        reached: whether one has reached the target.
    """

    stop: tuple[int, ...] = ()
    reached: bool = False
