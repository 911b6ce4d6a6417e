"""Rows of a run's history as clients read them: ranges of steps, evenly spread samples, and series of metrics.

However long a history is, only the rows that are answered are in memory at once.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence

from wandb_submit.server.client_json import read_object
from wandb_submit.server.database import Transaction
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.refusals import Refusal
from wandb_submit.server.runs.history import length

_DEFAULT_SAMPLES = 500
_LAST_STEP = 2**62
# Rows of more than this are not answered at once.
_MAX_BYTES = 64 * 1024 * 1024
_MAX_KEYS = 100
# Names whose text in JSON is their own, whatever the version of SQLite.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_./ -]+")
_MISSING = object()


def sampled(tx: Transaction, run: int, stream: str, arguments: Arguments) -> list[str]:
    """Rows as JSON texts: those of a range of steps, or evenly spread ones over all, the first and last included."""
    samples = arguments.integer("samples", _DEFAULT_SAMPLES)
    if "minStep" in arguments or "maxStep" in arguments:
        rows = tx.each(
            "SELECT content FROM history WHERE run = ? AND stream = ? AND step >= ? AND step < ? ORDER BY step, number"
            " LIMIT ?",
            (run, stream, arguments.integer("minStep", 0), arguments.integer("maxStep", _LAST_STEP), max(samples, 0)),
        )
    else:
        rows = tx.each(
            "SELECT content FROM history WHERE run = ? AND stream = ? AND number IN (SELECT value FROM json_each(?))"
            " ORDER BY number",
            (run, stream, json.dumps(spread(length(tx, run, stream), samples))),
        )
    return _bounded(row["content"] for row in rows)


def series(tx: Transaction, run: int, arguments: Arguments) -> list[list[dict[str, object]]]:
    """For each spec (JSON: `keys`, maybe `samples`, `minStep`, `maxStep`) the rows that hold all of its keys."""
    return [_series(tx, run, text) for text in arguments.texts("specs") or []]


def spread(total: int, samples: int) -> list[int]:
    """Positions of at most so many samples among so many rows: evenly spread, the first and last included."""
    if samples >= total:
        return list(range(total))
    if samples < 2:
        return [total - 1] * max(samples, 0)
    return [round(sample * (total - 1) / (samples - 1)) for sample in range(samples)]


def _series(tx: Transaction, run: int, text: str) -> list[dict[str, object]]:
    spec = Arguments(read_object(text, "a spec"))
    wanted = spec.texts("keys")
    if not wanted:
        # The stock agent and `wandb sweep --stop` ask like this for every run of a sweep, and look at nothing.
        return []
    if len(wanted) > _MAX_KEYS:
        raise Refusal(f"a spec has at most {_MAX_KEYS} keys")
    first, last = spec.integer("minStep", 0), spec.integer("maxStep", _LAST_STEP)
    numbers = _rows_with(tx, run, wanted, first, last)
    chosen = [numbers[place] for place in spread(len(numbers), spec.integer("samples", _DEFAULT_SAMPLES))]
    rows = tx.each(
        "SELECT content FROM history WHERE run = ? AND stream = 'history'"
        " AND number IN (SELECT value FROM json_each(?)) ORDER BY step, number",
        (run, json.dumps(chosen)),
    )
    picked = ({key: _value(json.loads(row["content"]), key) for key in wanted} for row in rows)
    return [json.loads(kept) for kept in _bounded(json.dumps(row) for row in picked)]


def _rows_with(tx: Transaction, run: int, keys: Sequence[str], first: int, last: int) -> array[int]:
    """The numbers of the rows of some steps that hold all keys; SQLite looks into them."""
    plain = [key for key in keys if _PLAIN_NAME.fullmatch(key)]
    odd = [key for key in keys if key not in plain]
    has = " AND ".join("(json_type(content, ?) IS NOT NULL OR json_type(content, ?) IS NOT NULL)" for _ in plain)
    # A dot in a key parts the levels of a nested value, unless the key has it itself.
    paths = [path for key in plain for path in (f'$."{key}"', "$" + "".join(f'."{part}"' for part in key.split(".")))]
    found = tx.each(
        f"SELECT number{', content' if odd else ''} FROM history"  # noqa: S608 - no client's text in it
        # Unlike in `sampled`, the last step is meant to be among them.
        f" WHERE run = ? AND stream = 'history' AND step >= ? AND step <= ? AND {has or 1} ORDER BY step, number",
        (run, first, last, *paths),
    )
    return array(
        "q",
        (
            row["number"]
            for row in found
            if not odd or all(_value(json.loads(row["content"]), key) is not _MISSING for key in odd)
        ),
    )


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


def _bounded(texts: Iterable[str]) -> list[str]:
    """A list of texts that is not too long to be answered at once."""
    kept, size = [], 0
    for text in texts:
        size += len(text)
        if size > _MAX_BYTES:
            raise Refusal(
                f"these rows are more than {_MAX_BYTES >> 20} MB: ask for fewer at once (`page_size`, `samples`)"
            )
        kept.append(text)
    return kept
