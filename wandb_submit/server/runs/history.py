"""How much a run has logged: how many rows, the last of them, and which metrics."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from wandb_submit.server.database import Transaction

# One level of a path as SQLite writes it: `."a b"` or `.a`.
_PATH_PART = re.compile(r"""\."([^"]*)"|\.([^."\[]+)""")
# SQLite's names for the types of JSON values, and W&B's.
_TYPES = {"integer": "number", "real": "number", "text": "string", "true": "boolean", "false": "boolean"}
# What SQLite gives for the values of some, and what they are.
_VALUES: Mapping[str, Callable[[Any], object]] = {"true": bool, "false": bool, "array": json.loads}


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


def keys(tx: Transaction, run: int) -> dict[str, object]:
    """Which metrics were logged, how often, their last values, and the last step.

    Nested metrics have their levels parted by dots.
    """
    rows = tx.rows(
        # A column that is not aggregated comes from the row with the maximum: https://sqlite.org/lang_select.html
        "SELECT entry.fullkey AS path, entry.type AS type, COUNT(*) AS times, MAX(number) AS latest, entry.value AS"
        " value FROM history, json_tree(history.content) AS entry WHERE run = ? AND stream = 'history'"
        " AND typeof(entry.key) = 'text' AND entry.type <> 'object' GROUP BY 1, 2 ORDER BY latest",
        (run,),
    )
    found: dict[str, Counter[str]] = {}
    previous: dict[str, object] = {}
    for row in rows:
        parts = [quoted or plain for quoted, plain in _PATH_PART.findall(row["path"])]
        if _PATH_PART.sub("", row["path"]) == "$":  # else it is inside a list
            name, kind = ".".join(parts), row["type"]
            found.setdefault(name, Counter())[_TYPES.get(kind, kind)] += row["times"]
            previous[name] = _VALUES[kind](row["value"]) if kind in _VALUES else row["value"]
    last = tx.one("SELECT MAX(step) FROM history WHERE run = ? AND stream = 'history'", (run,))
    return {
        "sets": [],
        "keys": {
            name: {
                "typeCounts": [{"type": kind, "count": times} for kind, times in found[name].items()],
                "monotonic": name == "_step",
                "previousValue": previous[name],
            }
            for name in sorted(found)
        },
        "lastStep": -1 if last is None or last[0] is None else last[0],
    }
