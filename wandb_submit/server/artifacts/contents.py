"""The files of all artifacts, each kept once, whatever it is called and however many versions have it.

They lie below the folder `artifacts`, named by their MD5 (which W&B's protocol knows files by) and a part that no other
file ever has: so a file that is to go can be removed at leisure while the same content arrives anew. A file is in
its place before the database knows it, and the database has forgotten it before it is removed. What the death of a
server leaves in between belongs to nobody and is removed at the next start.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wandb_submit.server.artifacts import ids
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.auth import authorization
from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal

_log = logging.getLogger(__name__)
_MD5_BYTES = 16


def folder(data_dir: Path) -> Path:
    """Where the files are."""
    return data_dir / "artifacts"


def new_file(content: str) -> str:
    """A place for a file of that MD5 (hexadecimal), below the folder, that no file had or will have."""
    return f"{content[:2]}/{content}-{secrets.token_hex(8)}"


def checked_md5(text: str) -> str:
    """The hexadecimal form of an MD5 that the API writes as base64.

    Raises:
        Refusal: if it is none.
    """
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != _MD5_BYTES:
        raise Refusal(f"{text[:60]!r} is not an MD5 in base64, by which this server knows files")
    return digest.hex()


def create_artifact_files(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `createArtifactFiles`: tells where to upload files; those that are there need none."""
    specs = arguments.nested("input").nested_list("artifactFiles")
    return {"files": {"edges": [{"node": _file_to_upload(context, spec)} for spec in specs]}}


def _file_to_upload(context: Context, spec: Arguments) -> Mapping[str, object]:
    tx = context.tx
    artifact_id, name = spec.required_text("artifactID"), spec.required_text("name")
    artifact, content = ids.number("Artifact", artifact_id), checked_md5(spec.required_text("md5"))
    if tx.one("SELECT 1 FROM artifacts WHERE id = ? AND state = 'PENDING'", (artifact,)) is None:
        raise Refusal("files can be added to an artifact until it is committed, and this one is not waiting for any")
    # Whatever else is deleted meanwhile, this artifact has told that it needs the file.
    tx.execute("INSERT OR IGNORE INTO artifact_uploads (artifact, content) VALUES (?, ?)", (artifact, content))
    there = tx.one("SELECT 1 FROM artifact_contents WHERE content = ?", (content,)) is not None
    return {
        "id": ids.encoded("ArtifactFile", f"{artifact}:{content}"),
        "name": name,
        "displayName": name,
        "storagePath": storage_path(content),
        "uploadUrl": None if there else f"{context.base_url}/artifact/contents/{artifact}/{content}",
        "uploadHeaders": [f"Authorization:{authorization(context.server.key)}"],
        "uploadMultipartUrls": None,
        "artifact": {"id": artifact_id},
    }


def storage_path(content: str) -> str:
    """Where a file would be in W&B's bucket, whose paths begin like that; clients only show it."""
    return f"wandb_artifacts/{content}"


def is_expected(tx: Transaction, artifact: int, content: str) -> bool:
    """Whether an artifact waits for a file of that MD5."""
    return tx.one("SELECT 1 FROM artifact_uploads WHERE artifact = ? AND content = ?", (artifact, content)) is not None


def add(tx: Transaction, content: str, size: int, file: str, now: float) -> bool:
    """Remembers a file that is in its place; false if there is one with that content, or nobody wants it any more."""
    return (
        tx.execute(
            "INSERT OR IGNORE INTO artifact_contents (content, size, file, created_at) SELECT ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM artifact_uploads WHERE content = ?)",
            (content, size, file, now, content),
        )
        > 0
    )


def forget_uploads(context: Context, artifact: int) -> None:
    """Ends the claims of an artifact that waits for nothing more; what its manifest does not have goes."""
    rows = context.tx.rows("SELECT content FROM artifact_uploads WHERE artifact = ?", (artifact,))
    context.tx.execute("DELETE FROM artifact_uploads WHERE artifact = ?", (artifact,))
    free(context, [row["content"] for row in rows])


def free(context: Context, candidates: Iterable[str]) -> None:
    """Forgets those contents that no artifact has, and removes their files after the commit."""
    tx, lost = context.tx, []
    for content in candidates:
        row = tx.one(
            "SELECT file FROM artifact_contents WHERE content = :content"
            " AND NOT EXISTS (SELECT 1 FROM artifact_entries WHERE content = :content)"
            " AND NOT EXISTS (SELECT 1 FROM artifact_uploads WHERE content = :content)",
            {"content": content},
        )
        if row is not None:
            tx.execute("DELETE FROM artifact_contents WHERE content = ?", (content,))
            lost.append(folder(context.server.settings.data_dir) / row["file"])
    if lost:
        tx.after_commit.append(lambda: _remove_in_background(lost))


def remove_orphans(tx: Transaction, data_dir: Path) -> None:
    """Removes the files that the database does not know; for the start, while nobody uploads."""
    known = {row["file"] for row in tx.rows("SELECT file FROM artifact_contents")}
    removed = 0
    parts = [part for part in os.scandir(folder(data_dir)) if part.is_dir()] if folder(data_dir).is_dir() else []
    for part in parts:
        for file in os.scandir(part):
            if f"{part.name}/{file.name}" not in known:
                Path(file).unlink(missing_ok=True)
                removed += 1
    if removed:
        _log.info("removed %d files of artifacts that nobody has", removed)


def _remove_in_background(files: Sequence[Path]) -> None:
    """Removes files without keeping the event loop, which calls this, from its other work."""

    def remove() -> None:
        for file in files:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("cannot remove %s, which no artifact has any more: %s", file, error)

    asyncio.get_running_loop().run_in_executor(None, remove)
