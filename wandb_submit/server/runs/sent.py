"""What a client has sent for a run: read and checked before the database's turn comes, in a thread if it is much."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from wandb_submit.server.storage.client_json import read_object, storable
from wandb_submit.server.storage.refusals import Refusal

HISTORY = "wandb-history.jsonl"
_HISTORIES = {HISTORY: "history", "wandb-events.jsonl": "events"}
# What SQLite can hold.
_MAX_STEP = 2**63
_SUMMARY = "wandb-summary.json"
_CONSOLE = "output.log"
# What its lines are called among those of the histories.
CONSOLE = "console"
# Up to so many lines of a file, with so many letters, are read and stored by the event loop itself.
_FEW_LINES = 500
_MANY_LETTERS = 32 * 1024

# A row's number, step and text.
Row: TypeAlias = tuple[int, int, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One request to a run's file stream.

    Attributes:
        rows: for `history` and `events`, the number of the first row, and the rows; what was there from it on ends.
        system_metrics: the latest values among the events, as JSON.
        summary: the run's new summary as JSON.
        console: the lines of the console that are new or changed, by their numbers.
        preempting: the run expects to be preempted.
        exit_code: the run's, if it has ended.
        has_progressed: there are rows of the history, or a summary.
        fingerprint: tells this request from any other.
        parts: the rows and lines are in a file, in so many parts (`staging.py`), and not here.
        is_long: storing it would keep the event loop from its other work.
    """

    rows: Mapping[str, tuple[int, list[Row]]] = field(default_factory=dict)
    system_metrics: str | None = None
    summary: str | None = None
    console: tuple[tuple[int, str], ...] = ()
    preempting: bool = False
    exit_code: int | None = None
    has_progressed: bool = False
    fingerprint: str = ""
    parts: int = 0
    is_long: bool = False


async def read_sent(body: Mapping[str, object]) -> Sent:
    """Reads a request's body.

    Raises:
        Refusal: if it is not what W&B's clients send.
    """
    files = files_of(body)
    is_long = any(len(content) > _FEW_LINES or sum(map(len, content)) > _MANY_LETTERS for _, content in files.values())
    return await asyncio.to_thread(read_files, body, files, is_long=True) if is_long else read_files(body, files)


def files_of(body: Mapping[str, object]) -> dict[str, tuple[int, list[str]]]:
    """For each file the number of the first line, and the lines."""
    files = body.get("files")
    return {file: _chunk(file, chunk) for file, chunk in files.items()} if isinstance(files, dict) else {}


def _chunk(file: str, chunk: object) -> tuple[int, list[str]]:
    if not isinstance(chunk, dict):
        raise Refusal(f"the chunk of {file} is not an object")
    offset, lines = chunk.get("offset") or 0, chunk.get("content") or []
    if (
        not isinstance(offset, int)
        or not 0 <= offset < _MAX_STEP // 2
        or not isinstance(lines, list)
        or not all(isinstance(line, str) for line in lines)
    ):
        raise Refusal(f"the chunk of {file} must have a number as offset and lines as content")
    return offset, lines


def read_files(
    body: Mapping[str, object], files: Mapping[str, tuple[int, list[str]]], *, is_long: bool = False
) -> Sent:
    """What a request's body says, from it and what `files_of` has found in it.

    Raises:
        Refusal: if a line is not what W&B's clients send.
    """
    rows: dict[str, tuple[int, list[Row]]] = {}
    system_metrics: dict[str, object] = {}
    for file, stream in _HISTORIES.items():
        if file in files:
            offset, lines = files[file]
            rows[stream] = offset, _rows(stream, offset, lines, system_metrics if stream == "events" else None)
    summaries = files.get(_SUMMARY, (0, []))[1]
    ended, exit_code = bool(body.get("complete")), body.get("exitcode")
    return Sent(
        rows=rows,
        system_metrics=json.dumps(system_metrics) if system_metrics else None,
        summary=json.dumps(read_object(summaries[-1], f"the last line of {_SUMMARY}")) if summaries else None,
        console=tuple(enumerate(files[_CONSOLE][1], files[_CONSOLE][0])) if _CONSOLE in files else (),
        preempting=body.get("preempting") is True,
        exit_code=(exit_code if isinstance(exit_code, int) else 0) if ended else None,
        has_progressed=not files.keys().isdisjoint((HISTORY, _SUMMARY)),
        # Only the words that tell a run's end are ever compared with earlier ones.
        fingerprint=hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() if ended else "",
        is_long=is_long,
    )


def _rows(stream: str, offset: int, lines: list[str], latest: dict[str, object] | None) -> list[Row]:
    """The rows that lines hold; their values are added to `latest`."""
    rows = []
    for number, line in enumerate(lines, offset):
        row, text = storable(line, f"line {number} of the {stream}")
        step = row.get("_step")
        rows.append((number, step if isinstance(step, int) and abs(step) < _MAX_STEP else number, text))
        if latest is not None:
            latest.update(row)
    return rows
