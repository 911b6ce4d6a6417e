"""Lists of runs: filtered, ordered, in pages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from wandb_submit.server.context import Context
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.pages import edges, page_size
from wandb_submit.server.runs.columns import run_column
from wandb_submit.server.runs.fields import run_fields
from wandb_submit.server.runs.filters import Where
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
    where, parameters = _condition(arguments, narrowed_to)
    order = parse_order(arguments.text("order"))
    after, after_parameters = order.after(arguments.text("after") or None)
    size = _ALL if whole and "first" not in arguments else page_size(arguments)
    if size > _SHORT:
        context.tx.take_long()
    picked = context.tx.rows(
        # Only what runs are chosen and ordered by is read here: their configs and summaries can be long.
        f"SELECT * FROM (SELECT {order.selection} FROM runs WHERE {where})"  # noqa: S608 - no client's text in it
        f" WHERE {after} ORDER BY {order.sql} LIMIT ?",
        (*order.parameters, *parameters, *after_parameters, size + 1),
    )
    shown = picked[:size]
    cursors = [order.cursor(tuple(row)) for row in shown]
    rows = _rows(context, order, shown)
    nodes = [run_fields(context, row) for row in rows]
    return {
        **edges("Run", nodes, cursors, more=len(picked) > size),
        "totalCount": lambda _: run_count(context, arguments, **narrowed_to),
    }


def run_count(context: Context, arguments: Arguments, **narrowed_to: int) -> int:
    """How many runs a filter lets through."""
    where, parameters = _condition(arguments, narrowed_to)
    return context.tx.integer(f"SELECT COUNT(*) FROM runs WHERE {where}", parameters)  # noqa: S608 - as above


def _rows(context: Context, order: Order, picked: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
    """The runs that were picked, in the order of picking; a row's last key is the run's number."""
    ids = [row[len(order.keys) - 1] for row in picked]
    among = "runs.id IN (SELECT value FROM json_each(?))"
    rows = context.tx.rows(f"{SELECT} WHERE {among}", (json.dumps(ids),))
    found = {row["id"]: row for row in rows}
    return [found[number] for number in ids]


def _condition(arguments: Arguments, narrowed_to: Mapping[str, int]) -> tuple[str, list[object]]:
    where = Where(arguments.json_object("filters") or {}, run_column)
    narrowed = "".join(f"runs.{column} = ? AND " for column in narrowed_to)
    return f"{narrowed}({where.sql})", [*narrowed_to.values(), *where.parameters]
