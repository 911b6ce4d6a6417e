"""An artifact's manifest: announced, uploaded, and at the commit made the one that has all of the artifact."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from wandb_submit.server.artifacts import contents, ids
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.auth import authorization
from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal

_KINDS = ("FULL", "INCREMENTAL", "PATCH")
_COPY = (
    "INSERT OR IGNORE INTO artifact_entries (manifest, path, digest, size, ref, content, entry)"
    " SELECT ?, path, digest, size, ref, content, entry FROM artifact_entries WHERE manifest = ?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """A manifest that has all of an artifact."""

    number: int
    digest: str
    size: int
    file_count: int


def create_artifact_manifest(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `createArtifactManifest`: the client is going to upload one."""
    values = arguments.nested("input")
    artifact = ids.number("Artifact", values.required_text("artifactID"))
    kind = values.text("type") or "FULL"
    if kind not in _KINDS:
        raise Refusal(f"a manifest's type is one of {', '.join(_KINDS)}, not {kind:.60}")
    if context.tx.one("SELECT 1 FROM artifacts WHERE id = ? AND state = 'PENDING'", (artifact,)) is None:
        raise Refusal("a manifest belongs to an artifact that waits to be committed")
    base = values.text("baseArtifactID")
    number = context.tx.insert(
        "INSERT INTO artifact_manifests (artifact, kind, base, digest, created_at) VALUES (?, ?, ?, ?, ?)",
        (
            artifact,
            kind,
            None if base is None else ids.number("Artifact", base),
            values.text("digest") or "",
            context.now,
        ),
    )
    return {"artifactManifest": _to_upload(context, number)}


def update_artifact_manifest(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `updateArtifactManifest`: the client now knows what it is going to upload."""
    values = arguments.nested("input")
    number = ids.number("ArtifactManifest", values.required_text("artifactManifestID"))
    changed = context.tx.execute(
        "UPDATE artifact_manifests SET digest = COALESCE(?, digest) WHERE id = ? AND artifact IN"
        " (SELECT id FROM artifacts WHERE state = 'PENDING')",
        (values.text("digest"), number),
    )
    if not changed:
        raise Refusal("that manifest does not belong to an artifact that waits to be committed", status=404)
    return {"artifactManifest": _to_upload(context, number)}


def _to_upload(context: Context, number: int) -> Mapping[str, object]:
    manifest_id = ids.encoded("ArtifactManifest", number)
    file = {
        "id": manifest_id,
        "name": "wandb_manifest.json",
        "displayName": "wandb_manifest.json",
        "uploadUrl": f"{context.base_url}/artifact/manifests/{number}",
        "uploadHeaders": [f"Authorization:{authorization(context.server.key)}"],
    }
    return {"id": manifest_id, "file": file}


def begin(tx: Transaction, number: int) -> bool:
    """Clears a manifest for its upload, which may be its second; false if it may not be uploaded (any more)."""
    if not _is_open(tx, number):
        return False
    tx.execute("UPDATE artifact_manifests SET head = NULL WHERE id = ?", (number,))
    tx.execute("DELETE FROM artifact_entries WHERE manifest = ?", (number,))
    return True


def _is_open(tx: Transaction, number: int) -> bool:
    """Whether a manifest may be uploaded: its artifact waits to be committed."""
    return (
        tx.one(
            "SELECT 1 FROM artifact_manifests JOIN artifacts ON artifacts.id = artifact"
            " WHERE artifact_manifests.id = ? AND state = 'PENDING'",
            (number,),
        )
        is not None
    )


def finish(tx: Transaction, number: int, head: str) -> None:
    """Marks a manifest as uploaded, all of it."""
    if _is_open(tx, number):
        tx.execute("UPDATE artifact_manifests SET head = ? WHERE id = ?", (head, number))


def settle(context: Context, artifact: sqlite3.Row) -> Whole:
    """Makes of the uploaded manifests of an artifact the one that counts.

    Raises:
        Refusal: if there is none, or the content of an entry is not there.
    """
    tx = context.tx
    uploaded = tx.rows(
        "SELECT * FROM artifact_manifests WHERE artifact = ? AND head IS NOT NULL ORDER BY id DESC", (artifact["id"],)
    )
    if not uploaded:
        raise Refusal("the artifact cannot be committed: its manifest has not been uploaded")
    newest = uploaded[0]
    number = int(newest["id"])
    if newest["kind"] == "PATCH":
        for patch in uploaded[1:]:
            tx.execute(_COPY, (number, patch["id"]))
    elif newest["kind"] == "INCREMENTAL" and newest["base"] is not None:
        base = tx.one("SELECT manifest FROM artifacts WHERE id = ?", (newest["base"],))
        if base is not None:
            tx.execute(_COPY, (number, base["manifest"]))
    missing = tx.one(
        "SELECT path FROM artifact_entries LEFT JOIN artifact_contents USING (content) WHERE manifest = ?"
        " AND content IS NOT NULL AND file IS NULL",
        (number,),
    )
    if missing is not None:
        raise Refusal(f"the artifact cannot be committed: its file {missing['path']:.200} has not been uploaded")
    lost = delete_of(tx, artifact["id"], but=number)
    contents.free(context, lost)
    sums = tx.one("SELECT COUNT(*) AS files, SUM(size) AS size FROM artifact_entries WHERE manifest = ?", (number,))
    assert sums is not None  # noqa: S101 - an aggregate has one row
    digest = artifact["digest"] if newest["kind"] == "FULL" else _digest(tx, number)
    return Whole(number=number, digest=digest, size=int(sums["size"] or 0), file_count=int(sums["files"]))


def _digest(tx: Transaction, number: int) -> str:
    """The digest of a manifest, as W&B's client computes it (ArtifactManifestV1.digest)."""
    digest = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
    for row in tx.rows("SELECT path, digest FROM artifact_entries WHERE manifest = ? ORDER BY path", (number,)):
        digest.update(f"{row['path']}:{row['digest']}\n".encode())
    return digest.hexdigest()


def delete_of(tx: Transaction, artifact: int, *, but: int | None = None) -> list[str]:
    """Forgets an artifact's manifests, but for one; returns what they had of contents, which may be free now."""
    lost: list[str] = []
    for row in tx.rows("SELECT id FROM artifact_manifests WHERE artifact = ? AND id IS NOT ?", (artifact, but)):
        had = tx.rows("SELECT content FROM artifact_entries WHERE manifest = ? AND content IS NOT NULL", (row["id"],))
        lost.extend(entry["content"] for entry in had)
        tx.execute("DELETE FROM artifact_entries WHERE manifest = ?", (row["id"],))
        tx.execute("DELETE FROM artifact_manifests WHERE id = ?", (row["id"],))
    return lost


def head_of(tx: Transaction, number: int) -> dict[str, object] | None:
    """All of an uploaded manifest but its entries."""
    row = tx.one("SELECT head FROM artifact_manifests WHERE id = ? AND head IS NOT NULL", (number,))
    return None if row is None else dict(json.loads(row["head"]))
