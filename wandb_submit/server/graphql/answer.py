"""Writes an answer as JSON, piece by piece.

Python writes a whole value as JSON without ever letting another of its threads run, which for an answer of megabytes
holds up the event loop, whichever thread does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice

# Of a longer list or mapping so many entries are written at a time.
_TOGETHER = 50
# Of a longer text so many letters.
_LETTERS = 256 * 1024


def written(data: object) -> bytes:
    """A value of mappings, lists, texts, numbers and nulls as JSON."""
    return "".join(_pieces(data)).encode()


def _pieces(value: object) -> Iterator[str]:
    match value:
        case {} if len(value) > _TOGETHER:
            yield from _long(value, "{}")
        case {}:
            yield "{"
            for number, (name, entry) in enumerate(value.items()):
                yield f"{', ' if number else ''}{json.dumps(name)}: "
                yield from _pieces(entry)
            yield "}"
        case list() | tuple() if len(value) > _TOGETHER:
            yield from _long(value, "[]")
        case str() if len(value) > _LETTERS:
            yield '"'
            for first in range(0, len(value), _LETTERS):
                yield json.dumps(value[first : first + _LETTERS])[1:-1]
            yield '"'
        case _:
            yield _text(value)


def _long(value: Mapping[str, object] | list[object] | tuple[object, ...], brackets: str) -> Iterator[str]:
    yield brackets[0]
    entries = iter(value.items() if isinstance(value, Mapping) else value)
    first = True
    while some := list(islice(entries, _TOGETHER)):
        yield "" if first else ", "
        yield _text(dict(some) if brackets == "{}" else some)[1:-1]  # type: ignore[arg-type]
        first = False
    yield brackets[1]


def _text(value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        # SQLite's reading of numbers that no double can hold, which earlier versions kept.
        return json.dumps(json.loads(json.dumps(value), parse_constant=str))
