"""Lists of runs: filtered, ordered, in pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from wandb_submit.server.context import Context
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.pages import edges, page
from wandb_submit.server.runs.fields import run_fields
from wandb_submit.server.runs.query import Where, order_by
from wandb_submit.server.runs.run import SELECT

_COUNT = (
    "SELECT COUNT(*) FROM runs JOIN projects ON projects.id = runs.project"
    " LEFT JOIN sweeps ON sweeps.number = runs.sweep"
)


def runs_page(context: Context, arguments: Arguments, **narrowed_to: int) -> Mapping[str, object]:
    """A page of runs; `narrowed_to` names columns of the run (project, sweep, agent) that must have a value."""
    condition, parameters = _condition(arguments, narrowed_to)
    order, order_parameters = order_by(arguments.text("order"))
    wanted = page(arguments)
    rows = context.tx.rows(
        f"{SELECT} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
        (*parameters, *order_parameters, wanted.size + 1, wanted.offset),
    )
    total = context.tx.integer(f"{_COUNT} WHERE {condition}", parameters)
    return {**edges("Run", [run_fields(context, row) for row in rows], wanted), "totalCount": total}


def run_count(context: Context, arguments: Arguments, **narrowed_to: int) -> int:
    """How many runs a filter lets through."""
    condition, parameters = _condition(arguments, narrowed_to)
    return context.tx.integer(f"{_COUNT} WHERE {condition}", parameters)


def best(context: Context, sweep: int, metric: str, *, maximize: bool) -> sqlite3.Row | None:
    """The run of a sweep with the best value of a metric in its summary."""
    order, parameters = order_by(("-" if maximize else "+") + f"summary_metrics.{metric}")
    return context.tx.one(f"{SELECT} WHERE runs.sweep = ? ORDER BY {order} LIMIT 1", (sweep, *parameters))


def _condition(arguments: Arguments, narrowed_to: Mapping[str, int]) -> tuple[str, list[object]]:
    where = Where(arguments.json_object("filters") or {})
    narrowed = "".join(f"runs.{column} = ? AND " for column in narrowed_to)
    return f"{narrowed}({where.sql})", [*narrowed_to.values(), *where.parameters]
