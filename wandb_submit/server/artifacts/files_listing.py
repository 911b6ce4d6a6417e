"""The files of an artifact, as the API lists them, and where they are downloaded."""

from __future__ import annotations

import json
import mimetypes
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.artifacts import ids
from wandb_submit.server.artifacts.contents import storage_path
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import edges, number_after, page_size
from wandb_submit.server.request.signed_urls import signed_url
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.timestamps import iso

# SQLite takes more, but nobody names so many.
_MAX_NAMES = 10_000


def artifact_files(context: Context, artifact: sqlite3.Row, arguments: Arguments) -> Mapping[str, object]:
    """An artifact's files: all, or those named (`names`); references too, which are downloaded from elsewhere."""
    names = arguments.texts("names")
    start, size = number_after(arguments) or 0, page_size(arguments)
    if names is not None and len(names) > _MAX_NAMES:
        raise Refusal(f"at most {_MAX_NAMES} files can be named at once, not {len(names)}")
    narrowed = f" AND path IN ({', '.join('?' * len(names))})" if names else ""
    parameters = (artifact["manifest"], *(names or ()))
    rows = context.tx.rows(
        f"SELECT * FROM artifact_entries WHERE manifest = ?{narrowed} ORDER BY path LIMIT ? OFFSET ?",  # noqa: S608 - only marks are put in
        (*parameters, size + 1, start),
    )
    shown = rows[:size]
    cursors = [str(start + count) for count in range(1, len(shown) + 1)]
    return {
        **edges("File", [_file(context, artifact, row) for row in shown], cursors, more=len(rows) > size),
        "totalCount": lambda _: context.tx.integer(
            f"SELECT COUNT(*) FROM artifact_entries WHERE manifest = ?{narrowed}",  # noqa: S608 - only marks are put in
            parameters,
        ),
    }


def files_of_entries(context: Context, artifact: sqlite3.Row, arguments: Arguments) -> Mapping[str, object]:
    """The files of the entries of its manifest that a client names, in their order."""
    names = [entry.required_text("name") for entry in arguments.nested_list("entries")]
    if len(names) > _MAX_NAMES:
        raise Refusal(f"at most {_MAX_NAMES} entries can be named at once, not {len(names)}")
    rows = context.tx.rows(
        "SELECT entry.* FROM json_each(?) AS wanted"
        " JOIN artifact_entries AS entry ON entry.manifest = ? AND entry.path = wanted.value ORDER BY wanted.key",
        (json.dumps(names), artifact["manifest"]),
    )
    cursors = [str(count) for count in range(1, len(rows) + 1)]
    return edges("File", [_file(context, artifact, row) for row in rows], cursors, more=False)


def _file(context: Context, artifact: sqlite3.Row, row: sqlite3.Row) -> Mapping[str, object]:
    path = row["path"]
    url = row["ref"] or signed_url(context.base_url, f"/artifact/contents/{row['content']}/{path}", context.server.key)
    return {
        "__typename": "File",
        "id": ids.encoded("ArtifactFile", f"{artifact['id']}:{path}"),
        "name": path,
        "displayName": path,
        "url": url,
        "directUrl": url,
        "sizeBytes": row["size"],
        "storagePath": None if row["content"] is None else storage_path(row["content"]),
        "mimetype": mimetypes.guess_type(path)[0] or "application/octet-stream",
        "updatedAt": iso(artifact["updated_at"]),
        "digest": row["digest"],
        "md5": row["digest"],
    }


def manifest_fields(context: Context, artifact: sqlite3.Row) -> Mapping[str, object] | None:
    """An artifact's manifest, to be downloaded; there is none before it is committed."""
    number = artifact["manifest"]
    if number is None:
        return None
    url = signed_url(context.base_url, f"/artifact/manifests/{number}", context.server.key)
    manifest_id = ids.encoded("ArtifactManifest", number)
    return {
        "__typename": "ArtifactManifest",
        "id": manifest_id,
        "file": {"__typename": "File", "id": manifest_id, "name": "wandb_manifest.json", "directUrl": url, "url": url},
    }
