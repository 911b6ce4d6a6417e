"""The artifacts that a run has logged or used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wandb_submit.server.storage.database import Transaction

_MAX_ARTIFACTS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactLine:
    """One artifact of a run, by the name under which `wandb` fetches it."""

    name: str
    type: str
    used: bool
    complete: bool
    files: int
    size: int


def artifact_lines(tx: Transaction, run: int) -> Sequence[ArtifactLine]:
    """A run's artifacts in the order in which it came to them."""
    rows = tx.rows(
        "SELECT artifact_collections.name, artifact_collections.type, artifact_versions.version, artifacts.state,"
        " artifacts.size, artifacts.file_count, artifact_runs.used FROM artifact_runs"
        " JOIN artifacts ON artifacts.id = artifact_runs.artifact"
        " JOIN artifact_collections ON artifact_collections.id = artifacts.sequence"
        " LEFT JOIN artifact_versions ON artifact_versions.artifact = artifacts.id"
        "  AND artifact_versions.collection = artifacts.sequence"
        " WHERE artifact_runs.run = ? ORDER BY artifact_runs.created_at, artifacts.id LIMIT ?",
        (run, _MAX_ARTIFACTS),
    )
    return [
        ArtifactLine(
            name=row["name"] if row["version"] is None else f"{row['name']}:v{row['version']}",
            type=row["type"],
            used=bool(row["used"]),
            complete=row["state"] == "COMMITTED",
            files=row["file_count"],
            size=row["size"],
        )
        for row in rows
    ]
