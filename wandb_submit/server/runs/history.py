"""How much a run has logged: how many rows, the last of them, and the values of a metric."""

from __future__ import annotations

import json

from wandb_submit.metrics import Metric
from wandb_submit.server.runs.json_values import logged_number
from wandb_submit.server.storage.database import Transaction


def length(tx: Transaction, run: int, stream: str) -> int:
    """How many rows there are."""
    return tx.integer("SELECT MAX(number) + 1 FROM history WHERE run = ? AND stream = ?", (run, stream))


def tail(tx: Transaction, run: int, stream: str) -> str:
    """The last row as W&B gives it to a run that resumes: JSON text of a list of JSON texts."""
    row = tx.one("SELECT content FROM history WHERE run = ? AND stream = ? ORDER BY number DESC LIMIT 1", (run, stream))
    return json.dumps([] if row is None else [row["content"]])


def metric_values(tx: Transaction, run: int, metric: Metric, start: int) -> tuple[list[float], int]:
    """The finite numbers of a metric in the rows from number `start` on, and where the rows end."""
    end = max(start, length(tx, run, "history"))
    value, parameters = logged_number("content", metric)
    rows = tx.rows(
        # SQLite picks the values without keeping us from others.
        f"SELECT value FROM (SELECT number, {value} AS value FROM history"  # noqa: S608 - no client's text in it
        " WHERE run = ? AND stream = 'history' AND number >= ? AND number < ?)"
        " WHERE value IS NOT NULL ORDER BY number",
        (*parameters, run, start, end),
    )
    return [float(row["value"]) for row in rows], end
