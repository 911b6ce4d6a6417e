"""A sweep's runs as its charts and its table need them: all of them, but little of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wandb_submit.metrics import CUT_SHORT, Metric, finite
from wandb_submit.server.runs.json_values import summary_number, summary_value
from wandb_submit.server.runs.state import ENDED
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.web.values import config_values

_T = TypeVar("_T")
_COLUMNS = "id, name, display_name, state, created_at, heartbeat_at, agent, COALESCE(point, config) AS config"
_NOTHING: tuple[str, tuple[str, ...]] = ("NULL", ())


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run of a sweep.

    Attributes:
        metric: the value of the metric that the page is about, if the run has one.
        parameters: what the search chose, or the run's own config where nothing was chosen.
        sort_value: of the summary value that the table is sorted by, if it is.
    """

    id: int
    name: str
    display_name: str
    state: str
    created_at: float
    heartbeat_at: float
    runtime_s: float | None
    agent: int | None
    metric: float | None
    parameters: Mapping[str, object]
    sort_value: object

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.state in ENDED

    @property
    def duration_s(self) -> float | None:
        """How long it took or has taken; as far as known, without the wait between its order and its begin."""
        if self.runtime_s is not None:
            return self.runtime_s
        return None if self.state == "pending" else self.heartbeat_at - self.created_at


def read_trials(tx: Transaction, sweep: int, metric: Metric | None, sorted_by: str | None = None) -> list[Trial]:
    """All runs of a sweep, in the order in which they were handed out.

    Args:
        tx: where to read.
        sweep: its number.
        metric: what the page is about.
        sorted_by: the name of a summary value.
    """
    metric_sql, metric_names = _NOTHING if metric is None else summary_number(metric)
    sort_sql, sort_names = _NOTHING if sorted_by is None else summary_value(sorted_by, sorting=True)
    runtime_sql, runtime_names = summary_number(Metric(name="_runtime"))
    rows = tx.rows(
        f"SELECT {_COLUMNS}, {runtime_sql} AS runtime, {metric_sql} AS metric, {sort_sql} AS sort_value"  # noqa: S608
        " FROM runs WHERE sweep = ? ORDER BY id",
        (*runtime_names, *metric_names, *sort_names, sweep),
    )
    return [
        Trial(
            id=row["id"],
            name=row["name"],
            display_name=row["display_name"],
            state=row["state"],
            created_at=row["created_at"],
            heartbeat_at=row["heartbeat_at"],
            runtime_s=finite(row["runtime"]),
            agent=row["agent"],
            metric=finite(row["metric"]),
            parameters=config_values(row["config"]),
            sort_value=row["sort_value"],
        )
        for row in rows
    ]


def best_trial(trials: Sequence[Trial], *, maximize: bool) -> Trial | None:
    """The run with the best value of the metric, the earliest of several; none that failed or was stopped."""
    return next((trial for trial in ranked(trials, maximize=maximize) if trial.state not in CUT_SHORT), None)


def ranked(trials: Sequence[Trial], *, maximize: bool) -> list[Trial]:
    """The runs that have a value of the metric, the best first, and those that failed or were stopped last."""
    sign = -1 if maximize else 1
    known = (trial for trial in trials if trial.metric is not None)
    return sorted(known, key=lambda trial: (trial.state in CUT_SHORT, sign * (trial.metric or 0)))


def thinned(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many of a list's items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[number * (len(items) - 1) // (most - 1)] for number in range(most)]
