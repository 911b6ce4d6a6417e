"""What a run has logged over time, thinned in the database: a page never loads a whole history."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence

from wandb_submit.metrics import Metric, finite
from wandb_submit.server.runs.json_values import logged_number
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.web.charts.figure import Point

# As many as a chart has room for: of each, the lowest and the highest value are drawn, so that no spike is lost.
_BUCKETS = 170
# Of a longer history so many rows are looked at, one somewhere in each of as many equal pieces: a fixed distance
# would miss whatever is logged at a fixed distance, too.
MAX_ROWS = 20_000
_MAX_ROWS_OF_MANY = 4_000
_PICKED = """
WITH RECURSIVE picked (piece, number) AS (
  SELECT 0, 0
  UNION ALL
  SELECT piece + 1, (piece + 1) * :every + (piece + 1) * 2654435761 % :every FROM picked
  WHERE (piece + 1) * :every < :total
),
looked_at AS (
  SELECT history.number, history.step, history.content FROM picked
  JOIN history ON history.run = :run AND history.stream = :stream AND history.number = picked.number
),
entries AS ({entries})
SELECT name, number * :buckets / :total AS bucket, AVG(step) AS x, MIN(value) AS low, MAX(value) AS high
FROM entries GROUP BY name, bucket ORDER BY name, bucket
"""
_ALL = """
SELECT looked_at.number, looked_at.step, entry.key AS name, entry.value AS value
FROM looked_at, json_each(looked_at.content) AS entry WHERE entry.type IN ('integer', 'real')
UNION ALL
SELECT looked_at.number, looked_at.step, outer.key || '.' || entry.key, entry.value
FROM looked_at, json_each(looked_at.content) AS outer, json_each(outer.value) AS entry
WHERE outer.type = 'object' AND outer.key <> '_wandb' AND entry.type IN ('integer', 'real')
  AND json_type(outer.value, '$._type') IS NULL
"""
_ONE = """
SELECT number, step, '' AS name, value FROM (SELECT number, step, {value} AS value FROM looked_at)
WHERE value IS NOT NULL
"""


def read_curves(tx: Transaction, run: int, stream: str) -> dict[str, list[Point]]:
    """All numeric metrics of a run over its steps; system metrics (`events`) over the seconds of its running."""
    return _read(tx, run, stream, None, MAX_ROWS)


def read_curve(tx: Transaction, run: int, metric: Metric) -> list[Point]:
    """One metric of a run, which is drawn among others and may be coarser."""
    return _read(tx, run, "history", metric, _MAX_ROWS_OF_MANY).get("", [])


def _read(tx: Transaction, run: int, stream: str, metric: Metric | None, most: int) -> dict[str, list[Point]]:
    total = tx.integer("SELECT MAX(number) + 1 FROM history WHERE run = ? AND stream = ?", (run, stream))
    entries, names = _ALL, {}
    if metric is not None:
        value, parameters = logged_number("content", metric)
        # The rest of the query has names for its parameters.
        names = {f"key{number}": key for number, key in enumerate(parameters)}
        for name in names:
            value = value.replace("?", f":{name}", 1)
        entries = _ONE.format(value=value)
    rows = tx.rows(
        _PICKED.format(entries=entries),
        {
            "run": run,
            "stream": stream,
            "total": total,
            "every": max(1, -(-total // most)),
            "buckets": min(_BUCKETS, max(total, 1)),
            **names,
        },
    )
    by_name: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in rows:
        by_name[row["name"]].append(row)
    # System metrics have no steps; each row tells how long the run had been going.
    seconds = {row["bucket"]: (row["low"] + row["high"]) / 2 for row in by_name.get("_runtime", ())}
    x_of = seconds if stream == "events" else {}
    return {
        name: _points(found, x_of) for name, found in by_name.items() if metric is not None or not name.startswith("_")
    }


def _points(rows: Sequence[sqlite3.Row], x_of: Mapping[int, float]) -> list[Point]:
    """One or two points per bucket, in an order that makes the line short."""
    points: list[Point] = []
    for row in rows:
        low, high = finite(row["low"]), finite(row["high"])
        if low is None or high is None:
            continue
        x = x_of.get(row["bucket"], row["x"])
        falling = bool(points) and abs(points[-1][1] - high) < abs(points[-1][1] - low)
        ends = (high, low) if falling else (low, high)
        points.extend((x, y) for y in (ends if low != high else ends[:1]))
    return points
