"""The files that a run has uploaded, as the API lists them."""

from __future__ import annotations

import fnmatch
import mimetypes
import sqlite3
from collections.abc import Mapping
from urllib.parse import quote

from wandb_submit.server.auth import authorization
from wandb_submit.server.context import Context
from wandb_submit.server.file_paths import checked_file_name
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.pages import connection
from wandb_submit.server.refusals import Refusal
from wandb_submit.server.runs.run import by_name, storage_id
from wandb_submit.server.timestamps import iso


def file_url(context: Context, entity: str, project: str, run: str, name: str) -> str:
    """Where a file is uploaded to and downloaded from."""
    path = "/".join(quote(part, safe="") for part in (entity, project, run, *name.split("/")))
    return f"{context.base_url}/storage/{path}"


def run_files(context: Context, run: sqlite3.Row, arguments: Arguments) -> Mapping[str, object]:
    """A run's files: all, those named (`names`), or those that a pattern with `%` matches."""
    names, pattern = arguments.texts("names"), arguments.text("pattern")
    rows = context.tx.rows("SELECT * FROM files WHERE run = ? ORDER BY name", (run["id"],))
    found = [
        row
        for row in rows
        if (not names or row["name"] in names)
        and (not pattern or fnmatch.fnmatchcase(row["name"], pattern.replace("%", "*")))
    ]
    return connection("File", [_file(context, run, row) for row in found], arguments)


def _file(context: Context, run: sqlite3.Row, row: sqlite3.Row) -> Mapping[str, object]:
    url = file_url(context, run["entity_name"], run["project_name"], run["name"], row["name"])
    return {
        "__typename": "File",
        "id": f"file-{run['id']}-{row['name']}",
        "name": row["name"],
        "url": url,
        "directUrl": url,
        "sizeBytes": row["size"],
        "mimetype": mimetypes.guess_type(row["name"])[0] or "application/octet-stream",
        "md5": row["md5"],
        "updatedAt": iso(row["updated_at"]),
    }


def create_run_files(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `createRunFiles`: tells a client where to upload its files.

    wandb-core sends no key of its own there: at W&B these are signed addresses of a cloud's storage.
    """
    values = arguments.nested("input")
    entity, project = values.required_text("entityName"), values.required_text("projectName")
    name = values.required_text("runName")
    run = by_name(context.tx, entity, project, name)
    if run is None:
        raise Refusal(f"run {entity}/{project}/{name} not found", status=404)
    files = [
        {"name": file, "uploadUrl": file_url(context, entity, project, name, checked_file_name(file))}
        for file in values.texts("files") or []
    ]
    return {
        "runID": storage_id(run),
        "uploadHeaders": [f"Authorization:{authorization(context.server.key)}"],
        "files": files,
    }
