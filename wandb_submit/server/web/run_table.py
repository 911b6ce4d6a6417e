"""A sweep's runs as a table that its reader sorts by clicking on a column's head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.metrics import finite
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.web.goal import Goal
from wandb_submit.server.web.links import with_query
from wandb_submit.server.web.paging import Paging
from wandb_submit.server.web.trials import Trial
from wandb_submit.server.web.values import summary_values
from wandb_submit.server.web.wording import value_text

PAGE_SIZE = 50
_MAX_PARAMETERS, _MAX_METRICS = 12, 5
_PARAMETER, _METRIC = "parameter:", "summary:"
# Where a sweep's metrics are looked up: they are the same in all of its runs.
_SAMPLES = 20

_SELECT = (
    "SELECT runs.id, runs.summary, COALESCE(runs.host, agents.host) AS host, agents.id AS agent"
    " FROM runs LEFT JOIN agents ON agents.number = runs.agent"
)
_FIXED: Mapping[str, tuple[str, Callable[[Trial], object]]] = {
    "name": ("Run", lambda trial: trial.display_name),
    "state": ("State", lambda trial: trial.state),
    "duration": ("Duration", lambda trial: trial.duration_s),
    "created": ("Created", lambda trial: trial.created_at),
    "agent": ("Agent", lambda trial: trial.agent),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column's head: what is written there and where a click leads.

    Attributes:
        order: of ARIA, `ascending`, `descending` or `none`.
    """

    title: str
    href: str
    order: str
    kind: str = "fixed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One run's row; `cells` are its parameters, the metric and other summary values."""

    trial: Trial
    agent: str | None
    host: str | None
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTable:
    """One page of a sweep's runs."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    paging: Paging


def sorted_metric(asked: Mapping[str, str]) -> str | None:
    """The summary value that the reader sorts by, if it is one."""
    key = asked.get("sort", "").lstrip("-")
    return key.removeprefix(_METRIC) if key.startswith(_METRIC) else None


def logged_metrics(tx: Transaction, sweep: int) -> list[str]:
    """The numbers in the summaries of the sweep's first runs, which are those of all."""
    rows = tx.rows(
        "SELECT summary FROM runs WHERE sweep = ? AND summary <> '{}' ORDER BY id LIMIT ?", (sweep, _SAMPLES)
    )
    found: dict[str, None] = {}
    for row in rows:
        values = summary_values(row["summary"])
        found.update(dict.fromkeys(name for name, value in values.items() if finite(value) is not None))
    return list(found)


def run_table(
    tx: Transaction,
    trials: Sequence[Trial],
    parameters: Sequence[str],
    goal: Goal,
    metrics: Sequence[str],
    asked: Mapping[str, str],
) -> RunTable:
    """The page of the table that is asked for by `sort` (a column, `-` before it for the largest first) and `page`."""
    parameters = parameters[:_MAX_PARAMETERS]
    others = [name for name in metrics if name != goal.metric][:_MAX_METRICS]
    values = [goal.metric, *others] if goal.metric else others
    ordered = _ordered(trials, goal, asked.get("sort") or "")
    paging = Paging.of(asked, len(ordered), PAGE_SIZE)
    shown = ordered[paging.offset : paging.offset + PAGE_SIZE]
    keep = {name: asked.get(name) for name in ("metric", "goal")}
    heads = [("fixed", key, title) for key, (title, _) in _FIXED.items()]
    heads += [("parameter", _PARAMETER + name, name) for name in parameters]
    heads += [("metric", _METRIC + name, name) for name in values]
    return RunTable(
        columns=tuple(_column(kind, key, title, asked.get("sort") or "", keep) for kind, key, title in heads),
        rows=_rows(tx, shown, parameters, values, goal.metric),
        paging=paging,
    )


def _column(kind: str, key: str, title: str, sort: str, keep: Mapping[str, str | None]) -> Column:
    order = {key: "ascending", f"-{key}": "descending"}.get(sort, "none")
    href = with_query(**keep, sort=f"-{key}" if order == "ascending" else key) + "#runs"
    return Column(title=title, href=href, order=order, kind=kind)


def _ordered(trials: Sequence[Trial], goal: Goal, sort: str) -> list[Trial]:
    """The runs in the order that is asked for: without one, the latest first; runs without the value come last."""
    key = sort.lstrip("-")
    if key in _FIXED:
        value = _FIXED[key][1]
    elif key.startswith(_PARAMETER):
        name = key.removeprefix(_PARAMETER)
        value = lambda trial: trial.parameters.get(name)  # noqa: E731 - one of several ways to look at a run
    elif key == f"{_METRIC}{goal.metric}":
        value = lambda trial: trial.metric  # noqa: E731
    elif key.startswith(_METRIC):
        value = lambda trial: trial.sort_value  # noqa: E731
    else:
        return list(trials)[::-1]
    known = [trial for trial in trials if value(trial) is not None]
    unknown = [trial for trial in trials if value(trial) is None]
    return sorted(known, key=lambda trial: _sortable(value(trial)), reverse=sort.startswith("-")) + unknown


def _sortable(value: object) -> tuple[bool, float, str]:
    """Numbers by size, then everything else by its letters."""
    number = finite(value)
    return (False, number, "") if number is not None else (True, 0.0, value_text(value))


def _rows(
    tx: Transaction, shown: Sequence[Trial], parameters: Sequence[str], values: Sequence[str], metric: str | None
) -> tuple[Row, ...]:
    ids = [trial.id for trial in shown]
    found = {
        row["id"]: row
        for row in tx.rows(
            f"{_SELECT} WHERE runs.id IN ({', '.join('?' * len(ids))})",
            ids,
        )
    }
    rows = []
    for trial in shown:
        row = found[trial.id]
        summary = summary_values(row["summary"])
        if metric is not None and trial.metric is not None:
            summary[metric] = trial.metric
        cells = [trial.parameters.get(name, "") for name in parameters] + [summary.get(name, "") for name in values]
        rows.append(
            Row(trial=trial, agent=row["agent"], host=row["host"], cells=tuple(value_text(cell) for cell in cells))
        )
    return tuple(rows)
