"""What a run has printed: the lines of its console, as they came while it ran."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.pages import edges, number_after
from wandb_submit.server.runs.run import by_name
from wandb_submit.server.storage.database import Transaction

# The name of the file that clients make of it when the run ends.
CONSOLE_FILE = "output.log"
_MAX_LINES = 10_000
_DEFAULT_LINES = 1000
# How clients write a line: what went to stderr is marked, and all have a time.
_LINE = re.compile(r"(ERROR )?(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?) (.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a run's console.

    Attributes:
        number: its place, from 0 on.
        printed_at: the time as the client wrote it, in UTC; None if it wrote none.
        is_error: whether it went to stderr.
    """

    number: int
    printed_at: str | None
    is_error: bool
    text: str


def count(tx: Transaction, run: int) -> int:
    """How many lines there are."""
    return tx.integer("SELECT MAX(number) + 1 FROM console WHERE run = ?", (run,))


def last_lines(tx: Transaction, run: int, limit: int) -> list[Line]:
    """The last lines, oldest first."""
    rows = tx.rows("SELECT number, line FROM console WHERE run = ? ORDER BY number DESC LIMIT ?", (run, limit))
    return [_line(row) for row in reversed(rows)]


def lines_after(tx: Transaction, run: int, number: int, limit: int) -> list[Line]:
    """The lines that follow the one of that number (-1: from the first on)."""
    return [
        _line(row)
        for row in tx.each(
            "SELECT number, line FROM console WHERE run = ? AND number > ? ORDER BY number LIMIT ?",
            (run, number, limit),
        )
    ]


def texts(tx: Transaction, run: int) -> Iterator[str]:
    """The lines as the client's own file has them."""
    for row in tx.each("SELECT number, line FROM console WHERE run = ? ORDER BY number", (run,)):
        yield f"{_line(row).text}\n"


def streamed_text(tx: Transaction, entity: str, project: str, name: str) -> str | None:
    """The whole console of a run; None if there is no such run, or it has printed nothing."""
    run = by_name(tx, entity, project, name)
    return None if run is None else "".join(texts(tx, run["id"])) or None


def log_lines(tx: Transaction, run: int, arguments: Arguments) -> Mapping[str, object]:
    """A page of lines for the API: the `last` ones, or the `first` ones after a cursor."""
    last = arguments.integer("last", 0)
    if last > 0:
        shown, more = last_lines(tx, run, min(last, _MAX_LINES)), False
    else:
        size = max(0, min(arguments.integer("first", _DEFAULT_LINES), _MAX_LINES))
        after = number_after(arguments)
        found = lines_after(tx, run, -1 if after is None else after, size + 1)
        shown, more = found[:size], len(found) > size
    return edges("LogLine", [_shown(line) for line in shown], [str(line.number) for line in shown], more=more)


def _line(row: sqlite3.Row) -> Line:
    match = _LINE.fullmatch(row["line"])
    if match is None:
        return Line(number=row["number"], printed_at=None, is_error=False, text=row["line"])
    error, printed_at, text = match.groups()
    return Line(number=row["number"], printed_at=printed_at, is_error=error is not None, text=text)


def _shown(line: Line) -> Mapping[str, object]:
    return {
        "__typename": "LogLine",
        "id": str(line.number),
        "number": line.number,
        "timestamp": line.printed_at or "",
        "level": "error" if line.is_error else "",
        "label": "",
        "line": line.text,
    }
