"""Lists of runs: filtered, ordered, in pages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import edges, page_size
from wandb_submit.server.runs.columns import run_column
from wandb_submit.server.runs.fields import run_fields
from wandb_submit.server.runs.filters import Where
from wandb_submit.server.runs.kept_lists import Condition
from wandb_submit.server.runs.orders import Order, parse_order
from wandb_submit.server.runs.run import SELECT

# More runs than these are in no list.
_ALL = 1_000_000
# A page of more takes its time, to be read and to be written.
_SHORT = 100


def runs_page(
    context: Context, arguments: Arguments, *, whole: bool = False, **narrowed_to: int
) -> Mapping[str, object]:
    """A page of runs.

    Args:
        context: the request's.
        arguments: `filters`, `order`, `after`, `first`.
        whole: the list is no page but all there is, unless `first` is given.
        narrowed_to: columns of the run (project, sweep, agent) that must have a value.
    """
    condition, order = _condition(arguments, narrowed_to), parse_order(arguments.text("order"))
    size = _ALL if whole and "first" not in arguments else page_size(arguments)
    if size > _SHORT:
        context.tx.take_long()
    picked = _picked(context, condition, order, arguments.text("after") or None, size + 1)
    shown = picked[:size]
    rows = _rows(context, order, shown)
    # A list that is kept may know of runs that came after this transaction had begun.
    known = [(order.cursor(keys), rows[keys[-1]]) for keys in shown if keys[-1] in rows]
    nodes, cursors = [run_fields(context, row) for _, row in known], [cursor for cursor, _ in known]
    return {
        **edges("Run", nodes, cursors, more=len(picked) > size),
        "totalCount": lambda _: run_count(context, arguments, **narrowed_to),
    }


def run_count(context: Context, arguments: Arguments, **narrowed_to: int) -> int:
    """How many runs a filter lets through."""
    condition = _condition(arguments, narrowed_to)
    kept = context.server.kept_lists.count(context.tx, condition) if context.tx.is_read else None
    if kept is not None:
        return kept
    return context.tx.integer(f"SELECT COUNT(*) FROM runs WHERE {condition.sql}", condition.parameters)  # noqa: S608 - as above


def _picked(
    context: Context, condition: Condition, order: Order, cursor: str | None, size: int
) -> list[tuple[object, ...]]:
    """The keys of so many runs after a cursor.

    Only what runs are chosen and ordered by is read here: their configs and summaries can be long.
    """
    tx = context.tx
    if tx.is_read and not (order.is_by_age and condition.is_of_project):
        return context.server.kept_lists.page(tx, condition, order, cursor, size)
    picked: list[tuple[object, ...]] = []
    for after, parameters in order.ranges(cursor):
        rows = tx.rows(
            f"SELECT * FROM (SELECT {order.selection} FROM runs WHERE {condition.sql})"  # noqa: S608 - no client's text
            f" WHERE {after} ORDER BY {order.sql} LIMIT ?",
            (*order.parameters, *condition.parameters, *parameters, size - len(picked)),
        )
        picked += map(tuple, rows)
        if len(picked) == size:
            break
    return picked


def _rows(context: Context, order: Order, picked: Sequence[Sequence[object]]) -> dict[object, sqlite3.Row]:
    """The runs that were picked, by their numbers, in the order of picking; the last key is the run's number."""
    ids = [keys[len(order.keys) - 1] for keys in picked]
    among = "runs.id IN (SELECT value FROM json_each(?))"
    found = {row["id"]: row for row in context.tx.rows(f"{SELECT} WHERE {among}", (json.dumps(ids),))}
    return {number: found[number] for number in ids if number in found}


def _condition(arguments: Arguments, narrowed_to: Mapping[str, int]) -> Condition:
    where = Where(arguments.json_object("filters") or {}, run_column)
    narrowed = " AND ".join(f"runs.{column} = ?" for column in narrowed_to)
    return Condition(narrowed=narrowed, rest=where.sql, parameters=(*narrowed_to.values(), *where.parameters))
