"""Sweeps as lines of a list: how far each has come, and the best that it has found."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.server.engine.config import config_of, run_cap
from wandb_submit.server.runs.json_values import best_value
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.web.goal import Goal, goal_of
from wandb_submit.server.web.links import project_url, sweep_url

SELECT = (
    "SELECT sweeps.*, projects.entity, projects.name AS project_name"
    " FROM sweeps JOIN projects ON projects.id = sweeps.project"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How many of a sweep's runs are where.

    Attributes:
        failed: failed, crashed and killed ones.
        waiting: preempted ones, which will go on.
        expected: how many there will be, if that is known.
    """

    finished: int
    failed: int
    running: int
    pending: int
    waiting: int
    expected: int | None

    @property
    def total(self) -> int:
        """How many there are."""
        return self.finished + self.failed + self.running + self.pending + self.waiting

    @property
    def whole(self) -> int:
        """What the bar's full length stands for."""
        return max(self.total, self.expected or 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepLine:
    """One sweep in a list, and the head of its page."""

    id: str
    title: str
    description: str
    entity: str
    project: str
    method: str
    state: str
    url: str
    project_url: str
    goal: Goal
    best: float | None
    progress: Progress
    created_at: float
    active_at: float

    @property
    def live(self) -> bool:
        """Whether something may still happen."""
        return self.state in ("RUNNING", "PENDING", "PAUSED") or self.progress.running + self.progress.pending > 0


def sweep_lines(tx: Transaction, rows: Sequence[sqlite3.Row]) -> list[SweepLine]:
    """The lines of sweeps that `SELECT` has read."""
    counts = _counts(tx, [row["number"] for row in rows])
    return [_line(tx, row, counts[row["number"]]) for row in rows]


def _counts(tx: Transaction, numbers: Sequence[int]) -> Mapping[int, Mapping[str, int]]:
    marks = ", ".join("?" * len(numbers))
    found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in tx.rows(
        f"SELECT sweep, state, COUNT(*) AS times FROM runs WHERE sweep IN ({marks}) GROUP BY sweep, state",  # noqa: S608
        numbers,
    ):
        found[row["sweep"]][row["state"]] = row["times"]
    return found


def _line(tx: Transaction, row: sqlite3.Row, counts: Mapping[str, int]) -> SweepLine:
    config = config_of(row)
    goal = goal_of(config)
    name = config.get("name")
    return SweepLine(
        id=row["id"],
        title=row["display_name"] or (name if isinstance(name, str) else "") or row["id"],
        description=row["description"] or str(config.get("description") or ""),
        entity=row["entity"],
        project=row["project_name"],
        method=str(config.get("method") or ""),
        state=row["state"],
        url=sweep_url(row["entity"], row["project_name"], row["id"]),
        project_url=project_url(row["entity"], row["project_name"]),
        goal=goal,
        best=None if goal.measure is None else best_value(tx, row["number"], goal.measure),
        progress=Progress(
            finished=counts["finished"],
            failed=counts["failed"] + counts["crashed"] + counts["killed"],
            running=counts["running"],
            pending=counts["pending"],
            waiting=counts["preempted"] + counts["preempting"],
            expected=min((n for n in (run_cap(config), row["grid_size"]) if n is not None), default=None),
        ),
        created_at=row["created_at"],
        active_at=max(row["heartbeat_at"] or 0.0, row["updated_at"]),
    )
