"""The files that a run has uploaded, as the API lists them."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import posixpath
import sqlite3
from collections.abc import Mapping
from urllib.parse import quote

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects.file_paths import checked_file_name
from wandb_submit.server.request.auth import authorization
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import connection
from wandb_submit.server.request.signed_urls import signed_url
from wandb_submit.server.runs import console
from wandb_submit.server.runs.run import required, storage_id
from wandb_submit.server.storage.timestamps import iso


def file_url(context: Context, entity: str, project: str, run: str, name: str) -> str:
    """Where a file is uploaded to and downloaded from."""
    path = "/".join(quote(part, safe="") for part in (entity, project, run, *name.split("/")))
    return f"{context.base_url}/storage/{path}"


def run_files(context: Context, run: sqlite3.Row, arguments: Arguments) -> Mapping[str, object]:
    """A run's files: all, those named (`names`), or those that a pattern of SQL's `LIKE` matches.

    One that is named and not there is listed without a time, as W&B does: clients look for that.
    """
    # Clients write ./file too.
    names = [posixpath.normpath(name) for name in arguments.texts("names") or []]
    pattern = arguments.text("pattern")
    if names:
        known = {row["name"]: row for row in _rows(context, run, None)}
        found = [_file(context, run, known[name]) if name in known else _no_file(context, run, name) for name in names]
        live = console.CONSOLE_FILE in names and console.CONSOLE_FILE not in known
    else:
        rows = _rows(context, run, pattern)
        found = [_file(context, run, row) for row in rows]
        live = not pattern and all(row["name"] != console.CONSOLE_FILE for row in rows)
    if live and console.count(context.tx, run["id"]):
        others = [file for file in found if file["name"] != console.CONSOLE_FILE]
        found = sorted([*others, _console_file(context, run)], key=lambda file: str(file["name"]))
    return {
        **connection("File", found, arguments),
        "uploadHeaders": [f"Authorization:{authorization(context.server.key)}"],
    }


def file_count(context: Context, run: sqlite3.Row) -> int:
    """How many files there are; a console that is not uploaded yet counts as one."""
    rows = _rows(context, run, None)
    live = all(row["name"] != console.CONSOLE_FILE for row in rows) and console.count(context.tx, run["id"])
    return len(rows) + bool(live)


def _rows(context: Context, run: sqlite3.Row, pattern: str | None) -> list[sqlite3.Row]:
    like = r" AND name LIKE ? ESCAPE '\'" if pattern else ""
    return context.tx.rows(
        f"SELECT * FROM files WHERE run = ?{like} ORDER BY name",  # noqa: S608 - constants
        (run["id"], pattern) if pattern else (run["id"],),
    )


def _file(context: Context, run: sqlite3.Row, row: sqlite3.Row) -> dict[str, object]:
    return {
        **_no_file(context, run, row["name"]),
        "sizeBytes": row["size"],
        "md5": row["md5"],
        "updatedAt": iso(row["updated_at"]),
    }


def _no_file(context: Context, run: sqlite3.Row, name: str) -> dict[str, object]:
    place = run["entity_name"], run["project_name"], run["name"]
    return {
        "__typename": "File",
        "id": f"file-{run['id']}-{name}",
        "name": name,
        "url": file_url(context, *place, name),
        # At W&B one of a cloud's storage: wandb 0.26 sends no key there.
        "directUrl": signed_url(context.base_url, f"/storage/{'/'.join(place)}/{name}", context.server.key),
        "sizeBytes": 0,
        "mimetype": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "md5": None,
        "updatedAt": None,
    }


def _console_file(context: Context, run: sqlite3.Row) -> dict[str, object]:
    """The console of a run that has not uploaded its own file of it, or never will."""
    # W&B's API names files' MD5; nothing is protected by it.
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    for text in console.texts(context.tx, run["id"]):
        digest.update(text.encode())
        size += len(text.encode())
    return {
        **_no_file(context, run, console.CONSOLE_FILE),
        "sizeBytes": size,
        "mimetype": "text/plain",
        "md5": base64.b64encode(digest.digest()).decode(),
        "updatedAt": iso(run["heartbeat_at"]),
    }


def create_run_files(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `createRunFiles`: tells a client where to upload its files.

    wandb-core sends no key of its own there: at W&B these are signed addresses of a cloud's storage.
    """
    values = arguments.nested("input")
    entity, project, name, run = _named_run(context, values)
    files = [
        {"name": file, "uploadUrl": file_url(context, entity, project, name, checked_file_name(file))}
        for file in values.texts("files") or []
    ]
    return {
        "runID": storage_id(run),
        "uploadHeaders": [f"Authorization:{authorization(context.server.key)}"],
        "files": files,
    }


def mark_run_files_uploaded(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `markRunFilesUploaded`: says whether the files that a client has uploaded are there."""
    values = arguments.nested("input")
    run = _named_run(context, values)[3]
    known = {row["name"] for row in _rows(context, run, None)}
    return {"success": all(name in known for name in values.texts("files") or []), "clientMutationId": None}


def _named_run(context: Context, values: Arguments) -> tuple[str, str, str, sqlite3.Row]:
    entity, project = values.required_text("entityName"), values.required_text("projectName")
    name = values.required_text("runName")
    return entity, project, name, required(context.tx, entity, project, name)
