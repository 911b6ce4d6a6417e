"""How much a run has logged: how many rows, the last of them, and the values of a metric."""

from __future__ import annotations

import json

from wandb_submit.server.database import Transaction


def length(tx: Transaction, run: int, stream: str) -> int:
    """How many rows there are."""
    return tx.integer("SELECT MAX(number) + 1 FROM history WHERE run = ? AND stream = ?", (run, stream))


def tail(tx: Transaction, run: int, stream: str) -> str:
    """The last row as W&B gives it to a run that resumes: JSON text of a list of JSON texts."""
    row = tx.one("SELECT content FROM history WHERE run = ? AND stream = ? ORDER BY number DESC LIMIT 1", (run, stream))
    return json.dumps([] if row is None else [row["content"]])


def metric_values(tx: Transaction, run: int, name: str, start: int) -> tuple[list[float], int]:
    """The finite numbers logged as `name` in the rows from number `start` on, and where the rows end."""
    end = max(start, length(tx, run, "history"))
    rows = tx.rows(
        # A dot may part a nested metric, or belong to the name. SQLite picks the value without keeping us from others.
        "SELECT value FROM (SELECT number, COALESCE(json_extract(content, :path), json_extract(content, :nested)) AS"
        " value, COALESCE(json_type(content, :path), json_type(content, :nested)) AS type FROM history"
        " WHERE run = :run AND stream = 'history' AND number >= :start AND number < :end)"
        " WHERE type IN ('integer', 'real') ORDER BY number",
        {"path": json_path(name), "nested": json_path(*name.split(".")), "run": run, "start": start, "end": end},
    )
    return [float(row["value"]) for row in rows], end


def json_path(*keys: str) -> str:
    """A path into JSON as SQLite writes it. It has no escape for a quote, and such a name simply matches nothing."""
    # JSON is stored in ASCII, and SQLite compares the names in it as they are written there.
    return "$" + "".join(f'."{json.dumps(key.replace(chr(34), ""))[1:-1]}"' for key in keys)
