"""A run's stream: its rows of history, its summary, its console, and the word that it has ended."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.client_json import read_object
from wandb_submit.server.context import Context
from wandb_submit.server.refusals import Refusal
from wandb_submit.server.runs.run import by_name
from wandb_submit.server.runs.state import state_after_exit
from wandb_submit.server.sweeps import sweep

_HISTORY = "wandb-history.jsonl"
_HISTORIES = {_HISTORY: "history", "wandb-events.jsonl": "events"}
# What SQLite can hold.
_MAX_STEP = 2**63
_SUMMARY = "wandb-summary.json"
_CONSOLE = "output.log"
# States that a run which speaks again can have been put in without its own word.
_GIVEN_UP = ("pending", "crashed", "failed", "preempted")


def take(context: Context, entity: str, project: str, name: str, body: Mapping[str, object]) -> dict[str, object]:
    """Stores what a client has sent; the answer says whether somebody wants the run to stop.

    Every chunk names the line it starts at and ends its file there, so a chunk that is sent again (its answer was
    lost, or a whole run is sent again) replaces what it brought the first time.

    Raises:
        Refusal: 404 if there is no such run; the client then gives up on its stream.
    """
    run = by_name(context.tx, entity, project, name)
    if run is None:
        raise Refusal(f"run {entity}/{project}/{name} not found", status=404)
    if run["preempted_by"] is not None and run["state"] in ("pending", "running") and _is_repeated(run, body):
        # The answer to its last words was lost, and meanwhile it was handed out again: what they say is known, and
        # they would take back the rows of its new life.
        return {}
    files = body.get("files")
    for file, chunk in files.items() if isinstance(files, dict) else ():
        offset, lines = _chunk(file, chunk)
        if file in _HISTORIES:
            _take_rows(context, run["id"], _HISTORIES[file], offset, lines)
        elif file == _SUMMARY and lines:
            summary = json.dumps(read_object(lines[-1], f"the last line of {file}"))
            context.tx.execute("UPDATE runs SET summary = ? WHERE id = ?", (summary, run["id"]))
        elif file == _CONSOLE:
            _take_console(context, run["id"], offset, lines)
    _take_state(context, run, body)
    _tell_search(context, run, files)
    stop = run["stop_requested_at"] is not None and not body.get("complete")
    return {"stopped": True} if stop else {}


def _tell_search(context: Context, run: sqlite3.Row, files: object) -> None:
    """A sweep may stop runs that do badly, and end with one that does well."""
    if run["sweep"] is None or not isinstance(files, dict) or not files.keys() & {_HISTORY, _SUMMARY}:
        return
    chunk = files.get(_HISTORY)
    first_row = None if chunk is None else _chunk(_HISTORY, chunk)[0]
    context.tx.after_commit.append(lambda: context.server.search.progressed(run["sweep"], run["id"], first_row))


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


def _take_rows(context: Context, run: int, stream: str, offset: int, lines: list[str]) -> None:
    context.tx.execute("DELETE FROM history WHERE run = ? AND stream = ? AND number >= ?", (run, stream, offset))
    rows = []
    latest: dict[str, object] = {}
    for number, line in enumerate(lines, offset):
        row = read_object(line, f"line {number} of the {stream}")
        step = row.get("_step")
        rows.append(
            (run, stream, number, step if isinstance(step, int) and abs(step) < _MAX_STEP else number, json.dumps(row))
        )
        latest.update(row)
    context.tx.execute_many("INSERT INTO history (run, stream, number, step, content) VALUES (?, ?, ?, ?, ?)", rows)
    if stream == "events" and latest:
        context.tx.execute(
            "UPDATE runs SET system_metrics = json_patch(system_metrics, ?) WHERE id = ?", (json.dumps(latest), run)
        )


def _take_console(context: Context, run: int, offset: int, lines: list[str]) -> None:
    # Unlike the histories, the console changes lines that it has sent (progress bars): only those are replaced.
    context.tx.execute_many(
        "INSERT OR REPLACE INTO console (run, number, line) VALUES (?, ?, ?)",
        [(run, number, line) for number, line in enumerate(lines, offset)],
    )


def _take_state(context: Context, run: sqlite3.Row, body: Mapping[str, object]) -> None:
    tx = context.tx
    preempting = bool(run["preempting"]) or body.get("preempting") is True
    tx.execute(
        "UPDATE runs SET heartbeat_at = ?, preempting = ? WHERE id = ?", (context.now, int(preempting), run["id"])
    )
    if body.get("complete"):
        exit_code = body.get("exitcode")
        code = exit_code if isinstance(exit_code, int) else 0
        stop_requested = run["stop_requested_at"] is not None
        state = state_after_exit(code, preempting=preempting, stop_requested=stop_requested)
        tx.execute(
            "UPDATE runs SET state = ?, exit_code = ?, preempted_by = ? WHERE id = ?",
            (state, code, _fingerprint(body) if state == "preempted" else None, run["id"]),
        )
        if run["sweep"] is not None:
            sweep.settle(context, run["sweep"])
    elif run["exit_code"] is None and run["state"] in _GIVEN_UP:
        # It was given up and lives: the network, or this server, was away for long.
        tx.execute("UPDATE runs SET state = 'running' WHERE id = ?", (run["id"],))


def _is_repeated(run: sqlite3.Row, body: Mapping[str, object]) -> bool:
    """Whether these are the words by which the run told its end by preemption, once more."""
    return bool(body.get("complete")) and _fingerprint(body) == run["preempted_by"]


def _fingerprint(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
