"""How clients ask for artifacts: by id, and by name within a project; and the mutations that answer with one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from wandb_submit.server.artifacts import artifact, collection, ids, versions
from wandb_submit.server.artifacts.fields import artifact_fields, collection_fields, membership_fields
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import connection
from wandb_submit.server.storage.timestamps import iso


def artifact_by_id(context: Context, arguments: Arguments) -> Mapping[str, object] | None:
    """Query `artifact`."""
    row = artifact.by_number(context.tx, ids.number("Artifact", arguments.required_text("id")))
    return None if row is None else artifact_fields(context, row)


def collection_by_id(context: Context, arguments: Arguments) -> Mapping[str, object] | None:
    """Query `artifactCollection`."""
    row = collection.by_number(context.tx, ids.number("ArtifactCollection", arguments.required_text("id")))
    return None if row is None else collection_fields(context, row)


def client_id_mapping(context: Context, arguments: Arguments) -> Mapping[str, object] | None:
    """Query `clientIDMapping`: the id of an artifact that a client has made under an id of its own."""
    number = artifact.by_client_id(context.tx, arguments.required_text("clientID"))
    return None if number is None else {"serverID": ids.encoded("Artifact", number)}


def project_artifacts(context: Context, project: sqlite3.Row) -> dict[str, object]:
    """The fields of a project that lead to its artifacts."""
    number, place = int(project["id"]), (project["entity"], project["name"])

    def version(wanted: Arguments) -> sqlite3.Row | None:
        return versions.by_name(context.tx, *place, wanted.required_text("name"))

    def membership(wanted: Arguments) -> Mapping[str, object] | None:
        found = version(wanted)
        return None if found is None else membership_fields(context, found)

    def named(wanted: Arguments) -> Mapping[str, object] | None:
        found = version(wanted)
        row = None if found is None else artifact.by_number(context.tx, found["artifact"])
        return None if row is None else artifact_fields(context, row)

    def one_collection(wanted: Arguments) -> Mapping[str, object] | None:
        found = collection.find(context.tx, *place, wanted.required_text("name"))
        return None if found is None else collection_fields(context, found)

    def types(wanted: Arguments) -> Mapping[str, object]:
        rows = context.tx.rows(f"{_TYPES} GROUP BY type ORDER BY type", (number,))
        return connection("ArtifactType", [_type_fields(context, project, row) for row in rows], wanted)

    def one_type(wanted: Arguments) -> Mapping[str, object] | None:
        row = context.tx.one(f"{_TYPES} AND type = ? GROUP BY type", (number, wanted.required_text("name")))
        return None if row is None else _type_fields(context, project, row)

    return {
        "artifact": named,
        "artifactCollectionMembership": membership,
        "artifactCollection": one_collection,
        "artifactCollections": lambda wanted: _collections(context, wanted, number),
        "artifactType": one_type,
        "artifactTypes": types,
    }


_TYPES = "SELECT type, MIN(created_at) AS created_at FROM artifact_collections WHERE project = ?"


def _type_fields(context: Context, project: sqlite3.Row, row: sqlite3.Row) -> Mapping[str, object]:
    kind, place = row["type"], (project["entity"], project["name"])

    def one_collection(wanted: Arguments) -> Mapping[str, object] | None:
        found = collection.find(context.tx, *place, wanted.required_text("name"))
        return collection_fields(context, found) if found is not None and found["type"] == kind else None

    def named(wanted: Arguments) -> Mapping[str, object] | None:
        found = versions.by_name(context.tx, *place, wanted.required_text("name"))
        row = None if found is None else artifact.by_number(context.tx, found["artifact"])
        return artifact_fields(context, row) if row is not None and row["type"] == kind else None

    return {
        "__typename": "ArtifactType",
        "id": ids.encoded("ArtifactType", f"{project['id']}:{kind}"),
        "name": kind,
        "description": None,
        "createdAt": iso(row["created_at"]),
        "artifact": named,
        "artifactCollection": one_collection,
        "artifactCollections": lambda wanted: _collections(context, wanted, project["id"], kind),
    }


def _collections(context: Context, wanted: Arguments, project: int, kind: str | None = None) -> Mapping[str, object]:
    """The collections of a project, the newest first; of all types or one."""
    rows = context.tx.rows(
        f"{collection.SELECT} WHERE artifact_collections.project = ? AND (?2 IS NULL OR artifact_collections.type = ?2)"
        " ORDER BY artifact_collections.id DESC",
        (project, kind),
    )
    return connection("ArtifactCollection", [collection_fields(context, row) for row in rows], wanted)


def create_artifact(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `createArtifact`."""
    row, latest = artifact.create(context, arguments.nested("input"))
    before = None if latest is None else {"id": ids.encoded("Artifact", latest)}
    sequence = collection.by_number(context.tx, row["sequence"])
    shown = {} if sequence is None else collection_fields(context, sequence)
    return {"artifact": {**artifact_fields(context, row), "artifactSequence": {**shown, "latestArtifact": before}}}


def commit_artifact(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `commitArtifact`."""
    row = artifact.commit(context, arguments.nested("input").required_text("artifactID"))
    return {"artifact": artifact_fields(context, row)}


def update_artifact(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `updateArtifact`."""
    return {"artifact": artifact_fields(context, artifact.update(context, arguments.nested("input")))}


def link_artifact(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `linkArtifact`."""
    version = versions.link_artifact(context, arguments)
    return {"versionIndex": version["version"], "artifactMembership": membership_fields(context, version)}


def update_collection(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutations `updateArtifactSequence` and `updateArtifactPortfolio`."""
    values = arguments.nested("input")
    name = "artifactSequenceID" if "artifactSequenceID" in values else "artifactPortfolioID"
    row = collection.required(context, values.required_text(name))
    return {"artifactCollection": collection_fields(context, collection.update(context, row, values))}


def move_sequence(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `moveArtifactSequence`: its artifacts become ones of another type."""
    values = arguments.nested("input")
    row = collection.required(context, values.required_text("artifactSequenceID"))
    kind = collection.checked_name("an artifact type", values.required_text("destinationArtifactTypeName"))
    return {"artifactCollection": collection_fields(context, collection.change(context, row, type=kind))}
