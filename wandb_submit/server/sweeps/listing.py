"""Lists of a project's sweeps: filtered, the youngest first, in pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import edges, number_after, page_size
from wandb_submit.server.runs.columns import sweep_column
from wandb_submit.server.runs.filters import Where


def sweeps_page(
    context: Context, arguments: Arguments, project: int, shown: Callable[[sqlite3.Row], Mapping[str, object]]
) -> Mapping[str, object]:
    """A page of sweeps. Its cursors are the sweeps' numbers, so sweeps that are made meanwhile move nothing.

    Args:
        context: the request's.
        arguments: `filters`, `after`, `first`.
        project: its number.
        shown: what the API shows of a sweep.
    """
    where = Where(arguments.json_object("filters") or {}, sweep_column)
    after, size = number_after(arguments), page_size(arguments)
    rows = context.tx.rows(
        f"SELECT * FROM sweeps WHERE project = ? AND (? IS NULL OR number < ?) AND ({where.sql})"  # noqa: S608 - see Where
        " ORDER BY number DESC LIMIT ?",
        (project, after, after, *where.parameters, size + 1),
    )
    cursors = [str(row["number"]) for row in rows[:size]]
    return edges("Sweep", [shown(row) for row in rows[:size]], cursors, more=len(rows) > size)
