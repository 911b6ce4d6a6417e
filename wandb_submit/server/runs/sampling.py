"""Rows of a run's history as clients read them: ranges of steps, evenly spread samples, and series of metrics.

However long a history is, only the rows that are answered are in memory at once.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.runs.history import length
from wandb_submit.server.storage.client_json import read_object
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal

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


def exported(tx: Transaction, run: int, arguments: Arguments) -> Mapping[str, object]:
    """A history as files of the kind Parquet and what came after them: none of ours is in such files.

    Clients look here for where the rows begin that they have to ask for otherwise.
    """
    keys = arguments.texts("liveKeys") or ["_step"]
    numbers = _rows_with(tx, run, keys[:_MAX_KEYS], 0, _LAST_STEP)
    return {
        "parquetUrls": [],
        "liveData": _picked(tx, run, [numbers[place] for place in spread(len(numbers), 2)], keys),
    }


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
    first, end = spec.integer("minStep", 0), spec.integer("maxStep", _LAST_STEP)
    samples = spec.integer("samples", _DEFAULT_SAMPLES)
    if end - first == samples - 1:
        # wandb 0.31 means the last step to be among them, and wants as many rows as there are steps: 0 to 999, 1000
        # to 1999. wandb 0.26 asks for 0 to 1000, then 1000 to 2000, with 1000 samples each, and does not mean it.
        end += 1
    numbers = _rows_with(tx, run, wanted, first, end)
    chosen = [numbers[place] for place in spread(len(numbers), samples)]
    return _picked(tx, run, chosen, wanted)


def _picked(tx: Transaction, run: int, numbers: Sequence[int], keys: Sequence[str]) -> list[dict[str, object]]:
    """Some keys of the rows of these numbers, all of which hold them."""
    rows = tx.each(
        "SELECT content FROM history WHERE run = ? AND stream = 'history'"
        " AND number IN (SELECT value FROM json_each(?)) ORDER BY step, number",
        (run, json.dumps(numbers)),
    )
    picked = ({key: _value(json.loads(row["content"]), key) for key in keys} for row in rows)
    return [json.loads(kept) for kept in _bounded(json.dumps(row) for row in picked)]


def _rows_with(tx: Transaction, run: int, keys: Sequence[str], first: int, end: int) -> array[int]:
    """The numbers of the rows of some steps that hold all keys; SQLite looks into them."""
    plain = [key for key in keys if _PLAIN_NAME.fullmatch(key)]
    odd = [key for key in keys if key not in plain]
    has = " AND ".join("(json_type(content, ?) IS NOT NULL OR json_type(content, ?) IS NOT NULL)" for _ in plain)
    # A dot in a key parts the levels of a nested value, unless the key has it itself.
    paths = [path for key in plain for path in (f'$."{key}"', "$" + "".join(f'."{part}"' for part in key.split(".")))]
    found = tx.each(
        f"SELECT number{', content' if odd else ''} FROM history"  # noqa: S608 - no client's text in it
        f" WHERE run = ? AND stream = 'history' AND step >= ? AND step < ? AND {has or 1} ORDER BY step, number",
        (run, first, end, *paths),
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
