"""The rows that a run has logged, read in pages, samples and series."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping

from wandb_submit.server.client_json import read_object
from wandb_submit.server.database import Transaction
from wandb_submit.server.graphql.arguments import Arguments

_MAX_ROWS = 10_000
_DEFAULT_SAMPLES = 500
# One level of a path as SQLite writes it: `."a b"` or `.a`.
_PATH_PART = re.compile(r"""\."([^"]*)"|\.([^."\[]+)""")
_MISSING = object()
# SQLite's names for the types of JSON values, and W&B's.
_TYPES = {"integer": "number", "real": "number", "text": "string", "true": "boolean", "false": "boolean"}


def length(tx: Transaction, run: int, stream: str) -> int:
    """How many rows there are."""
    return tx.integer("SELECT MAX(number) + 1 FROM history WHERE run = ? AND stream = ?", (run, stream))


def tail(tx: Transaction, run: int, stream: str) -> str:
    """The last row as W&B gives it to a run that resumes: JSON text of a list of JSON texts."""
    row = tx.one("SELECT content FROM history WHERE run = ? AND stream = ? ORDER BY number DESC LIMIT 1", (run, stream))
    return json.dumps([] if row is None else [row["content"]])


def sampled(tx: Transaction, run: int, stream: str, arguments: Arguments) -> list[str]:
    """Rows as JSON texts: those of a range of steps, or evenly spread ones over all."""
    samples = min(arguments.integer("samples", _DEFAULT_SAMPLES), _MAX_ROWS)
    if "minStep" in arguments or "maxStep" in arguments:
        rows = tx.rows(
            "SELECT content FROM history WHERE run = ? AND stream = ? AND step >= ? AND step < ? ORDER BY step, number"
            " LIMIT ?",
            (run, stream, arguments.integer("minStep", 0), arguments.integer("maxStep", 2**62), samples),
        )
        return [row["content"] for row in rows]
    total = length(tx, run, stream)
    every = max(1, -(-total // max(samples, 1)))
    rows = tx.rows(
        # The last row is always among them: it is what people compare with the summary.
        "SELECT content FROM history WHERE run = ? AND stream = ? AND (number % ? = 0 OR number = ?) ORDER BY number",
        (run, stream, every, total - 1),
    )
    return [row["content"] for row in rows]


def series(tx: Transaction, run: int, arguments: Arguments) -> list[list[dict[str, object]]]:
    """For each spec (JSON: `keys`, maybe `samples`, `minStep`, `maxStep`) the rows that hold all of its keys."""
    return [_series(tx, run, text) for text in arguments.texts("specs") or []]


def _series(tx: Transaction, run: int, text: str) -> list[dict[str, object]]:
    spec = Arguments(read_object(text, "a spec"))
    wanted = spec.texts("keys")
    if not wanted:
        # The stock agent and `wandb sweep --stop` ask like this for every run of a sweep, and look at nothing.
        return []
    samples = min(spec.integer("samples", _DEFAULT_SAMPLES), _MAX_ROWS)
    first, last = spec.integer("minStep", 0), spec.integer("maxStep", 2**62)
    if last - first == samples:
        # Unlike in `history`, the last step is meant to be among them; except by wandb 0.26, which asks for the
        # steps 0 to 1000, then for 1000 to 2000, with 1000 samples each. It would get every 1000th step twice.
        last -= 1
    rows = tx.rows(
        "SELECT content FROM history WHERE run = ? AND stream = 'history' AND step >= ? AND step <= ?"
        " ORDER BY step, number",
        (run, first, last),
    )
    found = [json.loads(row["content"]) for row in rows]
    picked = [{key: _value(row, key) for key in wanted} for row in found]
    found = [row for row in picked if _MISSING not in row.values()]
    every = max(1, -(-len(found) // max(samples, 1)))
    return found[::every]


def _value(row: Mapping[str, object], key: str) -> object:
    """A row's value; a dot in the key parts the levels of a nested one, unless the key has it itself."""
    if key in row:
        return row[key]
    value: object = row
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def keys(tx: Transaction, run: int) -> dict[str, object]:
    """Which metrics were logged, how often, and the last step; nested ones with their levels parted by dots."""
    rows = tx.rows(
        "SELECT entry.fullkey AS path, entry.type AS type, COUNT(*) AS times FROM history,"
        " json_tree(history.content) AS entry WHERE run = ? AND stream = 'history'"
        " AND typeof(entry.key) = 'text' AND entry.type <> 'object' GROUP BY 1, 2 ORDER BY 1",
        (run,),
    )
    found: dict[str, Counter[str]] = {}
    for row in rows:
        parts = [quoted or plain for quoted, plain in _PATH_PART.findall(row["path"])]
        if _PATH_PART.sub("", row["path"]) == "$":  # else it is inside a list
            counts = found.setdefault(".".join(parts), Counter())
            counts[_TYPES.get(row["type"], row["type"])] += row["times"]
    last = tx.one("SELECT MAX(step) FROM history WHERE run = ? AND stream = 'history'", (run,))
    return {
        "sets": [],
        "keys": {
            name: {
                "typeCounts": [{"type": kind, "count": times} for kind, times in counts.items()],
                "monotonic": name == "_step",
            }
            for name, counts in found.items()
        },
        "lastStep": -1 if last is None or last[0] is None else last[0],
    }
