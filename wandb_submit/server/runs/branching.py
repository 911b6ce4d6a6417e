"""Runs that go on from a step of another one (`fork_from`) or of their own past (`resume_from`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from wandb_submit.server.request.context import Context
from wandb_submit.server.runs.run import by_name
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.slices import Doomed, demand_few


def fork(context: Context, row: sqlite3.Row, config: Mapping[str, object], *, is_new: bool) -> int | None:
    """Gives a new run the rows that it shares with the one that it was forked from.

    Args:
        context: the request's.
        row: the new run.
        config: what its client sent, in whose own part is where the run branches off.
        is_new: whether this is the run's first request.

    Returns:
        After how many rows its own begin, however often its client asks; None if it is no fork.

    Raises:
        Refusal: if the project has no such run.
    """
    point = _branch_point(config)
    if point is None:
        return None
    name, step = point
    if is_new:
        source = by_name(context.tx, row["entity_name"], row["project_name"], name)
        if source is None:
            raise Refusal(f"run {name!r:.140}, from which {row['name']} is to be forked, not found", status=404)
        context.tx.take_long()
        context.tx.execute("DELETE FROM history WHERE run = ?", (row["id"],))
        context.tx.execute(
            "INSERT INTO history (run, stream, number, step, content) SELECT ?, stream, number, step, content"
            " FROM history WHERE run = ? AND stream = 'history' AND step <= ?",
            (row["id"], source["id"], step),
        )
    return context.tx.integer(
        "SELECT MAX(number) + 1 FROM history WHERE run = ? AND stream = 'history' AND step <= ?", (row["id"], step)
    )


def rewind(context: Context, row: sqlite3.Row, step: float) -> None:
    """Takes back all that a run has logged after a step.

    Its summary is what it logged last then; console and system metrics begin anew, as its client's do.
    """
    context.tx.take_long()
    tx, run = context.tx, row["id"]
    later = Doomed(table="history", run=run, condition="(stream = 'events' OR step > ?)", parameters=(step,))
    demand_few(tx, Doomed(table="console", run=run, condition="1"), later)
    context.server.history_keys.changed(tx, run)
    tx.execute(f"DELETE FROM history WHERE run = ? AND {later.condition}", (run, step))  # noqa: S608 - a constant
    tx.execute("DELETE FROM console WHERE run = ?", (run,))
    tx.execute(
        "UPDATE runs SET system_metrics = '{}', summary = COALESCE((SELECT content FROM history WHERE run = runs.id"
        " AND stream = 'history' ORDER BY number DESC LIMIT 1), '{}') WHERE id = ?",
        (run,),
    )


def _branch_point(config: Mapping[str, object]) -> tuple[str, int] | None:
    """The run and the step that a run branches off from, as its client notes them."""
    value: object = config
    for key in ("_wandb", "value", "branch_point"):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        return None
    name, step = value.get("run_id"), value.get("step")
    return (name, int(step)) if isinstance(name, str) and isinstance(step, int | float) else None
