"""An artifact's record: creating it, committing it, changing and deleting it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.artifacts import aliases, collection, contents, ids, manifest
from wandb_submit.server.control.settings import DEFAULT_ENTITY, DEFAULT_PROJECT
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.runs.run import required as required_run
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal

# An artifact with its sequence and project; every one that is shown was read by this.
SELECT = (
    "SELECT artifacts.*, artifact_collections.name AS sequence_name, artifact_collections.type AS type,"
    " artifact_collections.project AS project, projects.entity AS entity_name, projects.name AS project_name,"
    " artifact_versions.version AS version"
    " FROM artifacts JOIN artifact_collections ON artifact_collections.id = artifacts.sequence"
    " JOIN projects ON projects.id = artifact_collections.project"
    " LEFT JOIN artifact_versions ON artifact_versions.artifact = artifacts.id"
    " AND artifact_versions.collection = artifacts.sequence"
)
# The runs that make one together may take as long.
_ABANDONED_S = 30 * 24 * 3600.0


def by_number(tx: Transaction, number: int) -> sqlite3.Row | None:
    """The artifact of that number."""
    return tx.one(f"{SELECT} WHERE artifacts.id = ?", (number,))


def by_client_id(tx: Transaction, client_id: str) -> int | None:
    """The number of the artifact that a client made under an id of its own."""
    row = tx.one("SELECT artifact FROM artifact_clients WHERE client_id = ?", (client_id,))
    return None if row is None else int(row["artifact"])


def required(context: Context, artifact_id: str) -> sqlite3.Row:
    """The artifact of that id.

    Raises:
        Refusal: if there is none.
    """
    found = by_number(context.tx, ids.number("Artifact", artifact_id))
    if found is None:
        raise Refusal("artifact not found", status=404)
    return found


def create(context: Context, values: Arguments) -> tuple[sqlite3.Row, int | None]:
    """Makes an artifact, as `createArtifact` asks; returns it and its sequence's latest one of before, if any.

    The same content again is the version that there is. What several runs make together, and what a client asks for
    a second time because it did not get the answer, is the artifact that waits for the rest.
    """
    tx = context.tx
    project = values.text("entityName") or DEFAULT_ENTITY, values.text("projectName") or DEFAULT_PROJECT
    names = values.texts("artifactCollectionNames")
    name = values.text("artifactCollectionName") or (names[0] if names else "")
    sequence = collection.find_or_create(
        context, project, name, values.required_text("artifactTypeName"), portfolio=False
    )
    latest = tx.one(
        "SELECT artifact FROM artifact_versions WHERE collection = ? ORDER BY version DESC LIMIT 1", (sequence["id"],)
    )
    run = _run(context, project, values.text("runName"))
    wanted = [aliases.checked_alias(alias.required_text("alias")) for alias in values.nested_list("aliases")]
    number = _existing(context, sequence["id"], values)
    if number is None:
        number = _insert(context, sequence["id"], run, wanted, values)
    else:
        tx.execute("UPDATE artifacts SET updated_at = ? WHERE id = ? AND state = 'PENDING'", (context.now, number))
        version = tx.one(
            "SELECT version FROM artifact_versions WHERE artifact = ? AND collection = ?", (number, sequence["id"])
        )
        if version is not None:
            aliases.put(context, sequence["id"], version["version"], wanted)
    client_id = values.text("clientID")
    if client_id is not None:
        tx.execute("INSERT OR REPLACE INTO artifact_clients (client_id, artifact) VALUES (?, ?)", (client_id, number))
    if run is not None:
        tx.execute("INSERT OR IGNORE INTO artifact_runs VALUES (?, ?, 0, ?)", (run, number, context.now))
    row = by_number(tx, number)
    assert row is not None  # noqa: S101 - there was or is one
    return row, None if latest is None else int(latest["artifact"])


def _run(context: Context, project: tuple[str, str], name: str | None) -> int | None:
    if name is None:
        return None
    return int(required_run(context.tx, *project, name)["id"])


def _existing(context: Context, sequence: int, values: Arguments) -> int | None:
    """The artifact that a client means which creates one that there is."""
    tx = context.tx
    client_id = values.text("clientID")
    known = None if client_id is None else by_client_id(tx, client_id)
    if known is not None:
        return known
    row = None
    distributed = values.text("distributedID")
    if distributed is not None:
        row = tx.one(
            "SELECT id FROM artifacts WHERE sequence = ? AND distributed_id = ? AND state = 'PENDING'",
            (sequence, distributed),
        )
    elif values.flag("enableDigestDeduplication"):
        row = tx.one(
            "SELECT id FROM artifacts WHERE sequence = ? AND digest = ? AND state = 'COMMITTED' ORDER BY id DESC",
            (sequence, values.required_text("digest")),
        )
    return None if row is None else int(row["id"])


def _insert(context: Context, sequence: int, run: int | None, wanted: list[str], values: Arguments) -> int:
    metadata = values.json_object("metadata")
    return context.tx.insert(
        "INSERT INTO artifacts (sequence, state, digest, distributed_id, run, wanted_aliases, description, metadata,"
        " tags, ttl_s, history_step, created_at, updated_at) VALUES (?, 'PENDING', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            sequence,
            values.required_text("digest"),
            values.text("distributedID"),
            run,
            json.dumps(wanted),
            values.text("description"),
            None if metadata is None else json.dumps(metadata),
            json.dumps([tag.required_text("tagName") for tag in values.nested_list("tags")]),
            values.integer("ttlDurationSeconds", 0) or None,
            values.integer("historyStep", 0) if values.text("historyStep") is not None else None,
            context.now,
            context.now,
        ),
    )


def commit(context: Context, artifact_id: str) -> sqlite3.Row:
    """Makes an artifact whose files and manifest are there a version of its sequence; returns it.

    Raises:
        Refusal: if something of it is missing.
    """
    row = required(context, artifact_id)
    if row["state"] == "PENDING":
        whole = manifest.settle(context, row)
        context.tx.execute(
            "UPDATE artifacts SET state = 'COMMITTED', manifest = ?, digest = ?, size = ?, file_count = ?,"
            " wanted_aliases = '[]', updated_at = ? WHERE id = ?",
            (whole.number, whole.digest, whole.size, whole.file_count, context.now, row["id"]),
        )
        contents.forget_uploads(context, row["id"])
        version = aliases.add_version(context, row["sequence"], row["id"])
        aliases.put(context, row["sequence"], version["version"], json.loads(row["wanted_aliases"]))
    return required(context, artifact_id)


def update(context: Context, values: Arguments) -> sqlite3.Row:
    """Changes what people say about an artifact, as `updateArtifact` asks; returns it."""
    row = required(context, values.required_text("artifactID"))
    added = [tag.required_text("tagName") for tag in values.nested_list("tagsToAdd")]
    removed = [tag.required_text("tagName") for tag in values.nested_list("tagsToDelete")]
    kept = [tag for tag in json.loads(row["tags"]) if tag not in removed]
    changes: dict[str, object] = {
        "tags": json.dumps(list(dict.fromkeys([*kept, *added]))),
        "updated_at": context.now,
    }
    if values.text("description") is not None:
        changes["description"] = values.text("description")
    metadata = values.json_object("metadata")
    if metadata is not None:
        changes["metadata"] = json.dumps(metadata)
    ttl_s = values.integer("ttlDurationSeconds", 0)
    if ttl_s:
        changes["ttl_s"] = ttl_s
    assignments = ", ".join(f"{column} = ?" for column in changes)
    context.tx.execute(
        f"UPDATE artifacts SET {assignments} WHERE id = ?",  # noqa: S608 - the columns are named in this file
        (*changes.values(), row["id"]),
    )
    wanted = [alias.required_text("alias") for alias in values.nested_list("aliases")]
    if wanted and row["version"] is not None:
        aliases.put(context, row["sequence"], row["version"], wanted)
    return required(context, values.required_text("artifactID"))


def delete_artifact(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `deleteArtifact`: forgets a version, its links and what only it had of files."""
    values = arguments.nested("input")
    row = required(context, values.required_text("artifactID"))
    taken = context.tx.rows(
        "SELECT alias FROM artifact_aliases JOIN artifact_versions USING (collection, version) WHERE artifact = ?"
        " ORDER BY alias",
        (row["id"],),
    )
    if taken and not values.flag("deleteAliases"):
        names = ", ".join(alias["alias"] for alias in taken)
        raise Refusal(f"the artifact has the aliases {names}: delete them too (delete_aliases=True) or move them first")
    delete(context, row["id"])
    return {"artifact": {"id": ids.encoded("Artifact", row["id"])}}


def delete(context: Context, number: int) -> None:
    """Forgets an artifact, its links and what only it had of files."""
    tx = context.tx
    for version in tx.rows("SELECT * FROM artifact_versions WHERE artifact = ?", (number,)):
        aliases.remove_version(tx, version["collection"], version["version"])
    lost = manifest.delete_of(tx, number)
    for table in ("artifact_clients", "artifact_runs"):
        tx.execute(f"DELETE FROM {table} WHERE artifact = ?", (number,))  # noqa: S608 - constants
    tx.execute("DELETE FROM artifacts WHERE id = ?", (number,))
    contents.forget_uploads(context, number)
    contents.free(context, lost)


def forget_abandoned(context: Context) -> None:
    """Forgets the artifacts whose clients have not come back for a month; for the start."""
    rows = context.tx.rows(
        "SELECT id FROM artifacts WHERE state = 'PENDING' AND updated_at < ?", (context.now - _ABANDONED_S,)
    )
    for row in rows:
        delete(context, row["id"])


def delete_collection(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutations `deleteArtifactSequence`, with all its artifacts, and `deleteArtifactPortfolio`, with its links."""
    values = arguments.nested("input")
    name = "artifactSequenceID" if "artifactSequenceID" in values else "artifactPortfolioID"
    row = collection.required(context, values.required_text(name))
    for artifact in context.tx.rows("SELECT id FROM artifacts WHERE sequence = ?", (row["id"],)):
        delete(context, artifact["id"])
    for table, column in (
        ("artifact_versions", "collection"),
        ("artifact_aliases", "collection"),
        ("artifact_collections", "id"),
    ):
        context.tx.execute(f"DELETE FROM {table} WHERE {column} = ?", (row["id"],))  # noqa: S608 - constants
    kind = "ArtifactPortfolio" if row["portfolio"] else "ArtifactSequence"
    return {"artifactCollection": {"__typename": kind, "state": "DELETED"}}
