"""Runs that were there before a sweep and count as tried in it: `wandb sweep --prior_run`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects.projects import find
from wandb_submit.server.runs.columns import run_column
from wandb_submit.server.runs.filters import Where
from wandb_submit.server.storage.database import Transaction


def find_prior_runs(tx: Transaction, values: Arguments) -> tuple[list[int], list[str]]:
    """The runs that a sweep's creator names by a filter, and warnings about those that are not there."""
    filters = values.json_object("priorRunsFilters")
    if not filters:
        return [], []
    project = find(tx, values.text("entityName"), values.text("projectName"))
    where = Where(filters, run_column)
    rows = tx.rows(
        f"SELECT id, name FROM runs WHERE project = ? AND ({where.sql})",  # noqa: S608 - no client's text in it
        (None if project is None else project["id"], *where.parameters),
    )
    found = {row["name"] for row in rows}
    missing = [name for name in _names(filters) if name not in found]
    return [row["id"] for row in rows], [f"prior run {name} not found: it is left out" for name in missing]


def adopt(tx: Transaction, sweep: int, runs: list[int]) -> None:
    """Counts runs as tried in a new sweep, and shows those of no other sweep among its runs."""
    ids = json.dumps(runs)
    tx.execute(
        # Unless one was deleted meanwhile.
        "INSERT INTO prior_runs (sweep, run) SELECT ?, id FROM runs WHERE id IN (SELECT value FROM json_each(?))",
        (sweep, ids),
    )
    tx.execute("UPDATE runs SET sweep = ? WHERE sweep IS NULL AND id IN (SELECT value FROM json_each(?))", (sweep, ids))


def _names(filters: object) -> Iterator[str]:
    """The ids that the client's `{"$or": [{"name": …}, …]}` asks for."""
    match filters:
        case {"$or": list(entries)}:
            for entry in entries:
                yield from _names(entry)
        case {"name": str(name)}:
            yield name
