"""The entries of manifests: read from the JSON that a client uploads, kept one a row, written as JSON again.

So a part of a manifest of 100,000 files can be listed without reading it all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.server.artifacts import contents
from wandb_submit.server.projects.file_paths import new_file_name
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal

# Of the JSON text; some 700,000 entries. It is read at once.
MAX_BYTES = 100_000_000
# The client's own affairs.
_LOCAL = ("local_path", "skip_cache")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One path of a manifest, ready for the database."""

    path: str
    digest: str
    size: int
    ref: str | None
    content: str | None
    entry: str


def read(path: Path) -> tuple[str, Iterator[Entry]]:
    """Reads an uploaded manifest: all but its entries (as JSON), and these. Takes seconds for a large one.

    Raises:
        Refusal: if it is not a manifest of W&B's, or (while its entries are taken) one of them is none.
    """
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise Refusal("the manifest is not JSON") from error
    entries = manifest.pop("contents", None) if isinstance(manifest, dict) else None
    if not isinstance(entries, dict):
        raise Refusal("the manifest has no contents")
    return json.dumps(manifest), (_entry(name, entry) for name, entry in entries.items())


def _entry(path: str, entry: object) -> Entry:
    digest = entry.get("digest") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(digest, str):
        raise Refusal(f"the manifest's entry {path[:80]!r} has no digest")
    size, ref = entry.get("size") or 0, entry.get("ref")
    if not isinstance(size, int) or not 0 <= size < 2**62 or not isinstance(ref, str | None):
        raise Refusal(f"the manifest's entry {path[:80]!r} has a size or reference that is none")
    return Entry(
        # References are named by people; what we have is downloaded to that path.
        path=path if ref else new_file_name(path),
        digest=digest,
        size=size,
        ref=ref or None,
        content=None if ref else contents.checked_md5(digest),
        entry=json.dumps({key: value for key, value in entry.items() if key not in _LOCAL}),
    )


def store(tx: Transaction, number: int, entries: Sequence[Entry]) -> None:
    """Puts some entries of an uploaded manifest into the database."""
    tx.execute_many(
        "INSERT OR REPLACE INTO artifact_entries (manifest, path, digest, size, ref, content, entry)"
        " SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM artifact_manifests JOIN artifacts"
        " ON artifacts.id = artifact WHERE artifact_manifests.id = ? AND state = 'PENDING')",
        [(number, one.path, one.digest, one.size, one.ref, one.content, one.entry, number) for one in entries],
    )


def entries_after(tx: Transaction, number: int, path: str, limit: int) -> list[sqlite3.Row]:
    """The next entries of a manifest in the order of their paths."""
    return tx.rows(
        "SELECT * FROM artifact_entries WHERE manifest = ? AND path > ? ORDER BY path LIMIT ?", (number, path, limit)
    )


def as_json(rows: Sequence[sqlite3.Row]) -> Iterator[str]:
    """Entries as members of a JSON object."""
    for row in rows:
        yield f"{json.dumps(row['path'])}: {row['entry']}"
