"""What the API shows of artifacts, their versions and their collections."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.artifacts import collection, ids, versions
from wandb_submit.server.artifacts.artifact import by_number
from wandb_submit.server.artifacts.files_listing import artifact_files, files_of_entries, manifest_fields
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects.projects import find, project_fields
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import connection, edges, number_after, page_size
from wandb_submit.server.runs.run import SELECT as SELECT_RUN
from wandb_submit.server.runs.run import storage_id
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.timestamps import iso

# How versions can be ordered, and by what they can be chosen.
_ORDERS = {
    "createdAt": "artifact_versions.created_at",
    "updatedAt": "artifacts.updated_at",
    "versionIndex": "artifact_versions.version",
    "size": "artifacts.size",
    "digest": "artifacts.digest",
    "state": "artifacts.state",
}


def artifact_fields(context: Context, row: sqlite3.Row) -> dict[str, object]:
    """An artifact, from a row that `artifact.SELECT` read; what takes another query is looked up when asked for."""
    number = int(row["id"])

    def sequence(_: Arguments) -> Mapping[str, object] | None:
        found = collection.by_number(context.tx, row["sequence"])
        return None if found is None else collection_fields(context, found)

    def memberships(wanted: Arguments) -> Mapping[str, object]:
        rows = context.tx.rows("SELECT * FROM artifact_versions WHERE artifact = ? ORDER BY created_at", (number,))
        nodes = [membership_fields(context, version) for version in rows]
        return connection("ArtifactCollectionMembership", nodes, wanted)

    return {
        "__typename": "Artifact",
        "id": ids.encoded("Artifact", number),
        "artifactSequence": sequence,
        "versionIndex": row["version"],
        "artifactType": {"__typename": "ArtifactType", "name": row["type"]},
        "description": row["description"],
        "metadata": row["metadata"],
        # Kept and shown; nothing is deleted by it.
        "ttlDurationSeconds": row["ttl_s"] or -2,
        "ttlIsInherited": row["ttl_s"] in (None, -1),
        "tags": [collection.tag_fields(tag) for tag in json.loads(row["tags"])],
        "historyStep": row["history_step"],
        "state": row["state"],
        "size": row["size"],
        "storageBytes": row["size"],
        "digest": row["digest"],
        "digestAlgorithm": "MANIFEST_MD5",
        "commitHash": row["digest"],
        "fileCount": row["file_count"],
        "createdAt": iso(row["created_at"]),
        "updatedAt": iso(row["updated_at"]),
        "aliases": lambda _: _aliases(context, "artifact", number),
        "currentManifest": lambda _: manifest_fields(context, row),
        "files": lambda arguments: artifact_files(context, row, arguments),
        "filesByManifestEntries": lambda arguments: files_of_entries(context, row, arguments),
        "artifactMemberships": memberships,
        "createdBy": lambda _: _creator(context, row["run"]),
        "usedBy": lambda wanted: _users(context, number, wanted),
    }


def _aliases(context: Context, column: str, number: int) -> list[Mapping[str, object]]:
    """The aliases of all versions with a value in a column, each with its collection."""
    rows = context.tx.rows(
        "SELECT artifact_aliases.* FROM artifact_aliases JOIN artifact_versions USING (collection, version)"  # noqa: S608 - our own names
        f" WHERE artifact_versions.{column} = ? ORDER BY alias",
        (number,),
    )
    return [_alias_fields(context, row) for row in rows]


def _alias_fields(context: Context, row: sqlite3.Row) -> Mapping[str, object]:
    def owner(_: Arguments) -> Mapping[str, object] | None:
        found = collection.by_number(context.tx, row["collection"])
        return None if found is None else collection_fields(context, found)

    return {
        "__typename": "ArtifactAlias",
        "id": ids.encoded("ArtifactAlias", f"{row['collection']}:{row['alias']}"),
        "alias": row["alias"],
        "artifactCollection": owner,
    }


def membership_fields(context: Context, row: sqlite3.Row) -> Mapping[str, object]:
    """A version of a collection, which W&B calls an artifact's membership in it."""
    collection_number, number = int(row["collection"]), int(row["version"])

    def artifact(_: Arguments) -> Mapping[str, object] | None:
        found = by_number(context.tx, row["artifact"])
        return None if found is None else artifact_fields(context, found)

    def owner(_: Arguments) -> Mapping[str, object] | None:
        found = collection.by_number(context.tx, collection_number)
        return None if found is None else collection_fields(context, found)

    def aliases(_: Arguments) -> list[Mapping[str, object]]:
        found = context.tx.rows(
            "SELECT * FROM artifact_aliases WHERE collection = ? AND version = ? ORDER BY alias",
            (collection_number, number),
        )
        return [_alias_fields(context, alias) for alias in found]

    def files(wanted: Arguments) -> Mapping[str, object] | None:
        found = by_number(context.tx, row["artifact"])
        return None if found is None else artifact_files(context, found, wanted)

    return {
        "__typename": "ArtifactCollectionMembership",
        "id": ids.encoded("ArtifactCollectionMembership", f"{collection_number}:{number}"),
        "versionIndex": number,
        "createdAt": iso(row["created_at"]),
        "aliases": aliases,
        "artifactCollection": owner,
        "artifact": artifact,
        "files": files,
    }


def collection_fields(context: Context, row: sqlite3.Row) -> dict[str, object]:
    """A collection; what takes another query is looked up when asked for."""
    number = int(row["id"])

    def project(_: Arguments) -> Mapping[str, object] | None:
        found = find(context.tx, row["entity_name"], row["project_name"])
        return None if found is None else project_fields(found)

    def aliases(wanted: Arguments) -> Mapping[str, object]:
        return connection("ArtifactAlias", _aliases(context, "collection", number), wanted)

    def membership(wanted: Arguments) -> Mapping[str, object] | None:
        found = versions.named(context.tx, number, wanted.required_text("aliasName"))
        return None if found is None else membership_fields(context, found)

    def tags(wanted: Arguments) -> Mapping[str, object]:
        return connection("Tag", [collection.tag_fields(tag) for tag in json.loads(row["tags"])], wanted)

    return {
        "__typename": "ArtifactPortfolio" if row["portfolio"] else "ArtifactSequence",
        "id": ids.encoded("ArtifactCollection", number),
        "name": row["name"],
        "description": row["description"],
        "createdAt": iso(row["created_at"]),
        "updatedAt": iso(row["updated_at"]),
        "state": "READY",
        "digestAlgorithm": "MANIFEST_MD5",
        "project": project,
        "defaultArtifactType": {"__typename": "ArtifactType", "name": row["type"]},
        "tags": tags,
        "aliases": aliases,
        "artifactMembership": membership,
        "artifacts": lambda wanted: _artifacts(context, number, wanted),
    }


def _artifacts(context: Context, number: int, arguments: Arguments) -> Mapping[str, object]:
    """The artifacts of a collection, the newest first unless another order is asked for."""
    filters = arguments.json_object("filters") or {}
    columns = {name: _column(name) for name in filters}
    unknown = ", ".join(sorted(name for name, column in columns.items() if column is None))
    if unknown or any(not isinstance(value, str | int | float) for value in filters.values()):
        raise Refusal(f"artifacts can be filtered by the value of {', '.join(_ORDERS)}; not by {unknown or filters!r}")
    order = arguments.text("order") or "-versionIndex"
    column = _column(order.lstrip("+-"))
    if column is None:
        raise Refusal(f"artifacts can be ordered by {', '.join(_ORDERS)}, not by {order:.60}")
    start, size = number_after(arguments) or 0, page_size(arguments)
    source = (
        "FROM artifact_versions JOIN artifacts ON artifacts.id = artifact_versions.artifact"
        " WHERE artifact_versions.collection = ?" + "".join(f" AND {column} = ?" for column in columns.values())
    )
    direction = "DESC" if order.startswith("-") else "ASC"
    rows = context.tx.rows(
        f"SELECT artifact_versions.* {source} ORDER BY {column} {direction}, artifact_versions.version DESC"
        " LIMIT ? OFFSET ?",
        (number, *filters.values(), size + 1, start),
    )
    shown = rows[:size]
    artifacts = [by_number(context.tx, version["artifact"]) for version in shown]
    nodes = [artifact_fields(context, row) for row in artifacts if row is not None]
    cursors = [str(start + count) for count in range(1, len(shown) + 1)]
    versioned = [{"version": f"v{row['version']}"} for row in shown]
    return {
        **edges("Artifact", nodes, cursors, more=len(rows) > size, beside=versioned),
        "totalCount": context.tx.integer(f"SELECT COUNT(*) {source}", (number, *filters.values())),
    }


def _column(name: str) -> str | None:
    """What a version can be ordered by; clients write `versionIndex` as well as `version_index`."""
    first, *others = name.split("_")
    return _ORDERS.get(first + "".join(map(str.capitalize, others)))


def _creator(context: Context, run: int | None) -> Mapping[str, object] | None:
    row = None if run is None else context.tx.one(f"{SELECT_RUN} WHERE runs.id = ?", (run,))
    return None if row is None else _run_fields(context, row)


def _users(context: Context, artifact: int, wanted: Arguments) -> Mapping[str, object]:
    rows = context.tx.rows(
        f"{SELECT_RUN} JOIN artifact_runs ON artifact_runs.run = runs.id WHERE artifact = ? AND used = 1"
        " ORDER BY artifact_runs.created_at",
        (artifact,),
    )
    return connection("Run", [_run_fields(context, row) for row in rows], wanted)


def _run_fields(context: Context, row: sqlite3.Row) -> Mapping[str, object]:
    """A run as far as an artifact knows it: where to ask for more."""
    project = find(context.tx, row["entity_name"], row["project_name"])
    return {
        "__typename": "Run",
        "id": storage_id(row),
        "name": row["name"],
        "displayName": row["display_name"],
        "project": None if project is None else project_fields(project),
    }
