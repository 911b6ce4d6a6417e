"""What the clerk makes of large bodies: it runs in a process of its own (`clerk.py`), and takes as long as it takes.

The lines of a run go to a file, a database of SQLite's in parts of which each is stored quickly, so that not even their
number is anything to the server.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from wandb_submit.server.request.bodies import parsed
from wandb_submit.server.request.large_json import LETTERS, large_text
from wandb_submit.server.runs.sent import CONSOLE, Row, Sent, files_of, read_files
from wandb_submit.server.storage.refusals import Refusal

# A part is stored in a few milliseconds, unless one line alone is more.
_PART_LETTERS = 256 * 1024
_PART_ROWS = 1000
# Of a GraphQL request, its long texts aside.
_MAX_BESIDE = 4 * 1024 * 1024
_VALUE = 8  # what a value counts at least


def stage_stream(body: Path, staging: Path) -> Sent:
    """Reads what a run has sent; its lines go to the file `staging`.

    Raises:
        Refusal: if it is not what W&B's clients send.
    """
    content = parsed(body.read_bytes())
    sent = read_files(content, files_of(content), is_long=True)
    parts = 0
    with closing(sqlite3.connect(staging, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=OFF")
        file.execute("CREATE TABLE lines (part INTEGER, stream TEXT, number INTEGER, step INTEGER, text TEXT)")
        file.execute("BEGIN")
        for stream, rows in (*((name, rows) for name, (_, rows) in sent.rows.items()), (CONSOLE, _console(sent))):
            for part in _parts(rows):
                file.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?)", ((parts, stream, *row) for row in part))
                parts += 1
        file.execute("CREATE INDEX lines_of_part ON lines (part)")
        file.execute("COMMIT")
    begins = {stream: (offset, list[Row]()) for stream, (offset, _) in sent.rows.items()}
    return dataclasses.replace(sent, rows=begins, console=(), parts=parts)


def _console(sent: Sent) -> Iterator[Row]:
    return ((number, 0, line) for number, line in sent.console)


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    letters = 0
    for row in rows:
        if part and (len(part) == _PART_ROWS or letters + len(row[2]) > _PART_LETTERS):
            yield part
            part, letters = [], 0
        part.append(row)
        letters += len(row[2])
    if part:
        yield part


def part_of(staging: Path, part: int) -> list[tuple[str, int, int, str]]:
    """Stream, number, step and text of the lines of a part: what the server takes from the file."""
    with closing(sqlite3.connect(staging)) as file:
        return file.execute("SELECT stream, number, step, text FROM lines WHERE part = ?", (part,)).fetchall()


def stage_query(body: Path) -> Mapping[str, object]:
    """Reads a GraphQL request; objects that are long texts in it have been read, and made fit for storing.

    Raises:
        Refusal: if it is not JSON, or has too many values.
    """
    content = parsed(body.read_bytes())
    beside = 0

    def read(value: object) -> object:
        nonlocal beside
        match value:
            case str() if len(value) > LETTERS:
                return large_text(value)
            case str():
                beside += len(value)
            case dict():
                return {name: read(entry) for name, entry in value.items()}
            case list():
                return [read(entry) for entry in value]
        beside += _VALUE
        return value

    made = {name: read(value) for name, value in content.items()}
    if beside > _MAX_BESIDE:
        raise Refusal(f"a request's values are at most {_MAX_BESIDE >> 20} MB, long texts aside", status=413)
    return made
