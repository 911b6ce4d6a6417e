"""Collections of artifacts: sequences of what runs logged under one name, portfolios of links."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.artifacts import ids
from wandb_submit.server.control.settings import DEFAULT_ENTITY, DEFAULT_PROJECT
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects.projects import find_or_create as find_or_create_project
from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal

# A collection with its project; every one that is shown was read by this.
SELECT = (
    "SELECT artifact_collections.*, projects.entity AS entity_name, projects.name AS project_name"
    " FROM artifact_collections JOIN projects ON projects.id = artifact_collections.project"
)
# They part names in W&B's notation, ENTITY/PROJECT/COLLECTION:ALIAS.
_FORBIDDEN = "/:"
_MAX_LENGTH = 128


def find(tx: Transaction, entity: str | None, project: str | None, name: str) -> sqlite3.Row | None:
    """The collection of that name."""
    return tx.one(
        f"{SELECT} WHERE projects.entity = ? AND projects.name = ? AND artifact_collections.name = ?",
        (entity or DEFAULT_ENTITY, project or DEFAULT_PROJECT, name),
    )


def by_number(tx: Transaction, number: int) -> sqlite3.Row | None:
    """The collection of that number."""
    return tx.one(f"{SELECT} WHERE artifact_collections.id = ?", (number,))


def find_or_create(
    context: Context, project: tuple[str | None, str | None], name: str, kind: str, *, portfolio: bool
) -> sqlite3.Row:
    """The collection of that name in a project (entity, name), made if need be.

    Raises:
        Refusal: if it is one of another type, or a sequence where a portfolio is wanted or the reverse.
    """
    found = find(context.tx, *project, name)
    if found is not None:
        if found["type"] != kind:
            raise Refusal(
                f"the collection {name!r} holds artifacts of the type {found['type']!r}, so this one cannot be of "
                f"type {kind!r:.140}"
            )
        if bool(found["portfolio"]) is not portfolio:
            reason = "holds links to artifacts" if found["portfolio"] else "holds artifacts that runs logged, not links"
            raise Refusal(f"the collection {name!r} {reason}: choose another name")
        return found
    owner = find_or_create_project(context, *project)
    number = context.tx.insert(
        "INSERT INTO artifact_collections (project, name, type, portfolio, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            owner["id"],
            checked_name("a collection", name),
            checked_name("an artifact type", kind),
            portfolio,
            context.now,
            context.now,
        ),
    )
    made = by_number(context.tx, number)
    assert made is not None  # noqa: S101 - inserted in this transaction
    return made


def checked_name(what: str, name: str) -> str:
    """The name of a collection or type as W&B allows it.

    Raises:
        Refusal: if it is not.
    """
    if not 0 < len(name) <= _MAX_LENGTH or any(letter in _FORBIDDEN or ord(letter) < 32 for letter in name):
        raise Refusal(f"{name[:_MAX_LENGTH]!r} cannot be the name of {what}: no / or :, and at most 128 letters")
    return name


def required(context: Context, collection_id: str) -> sqlite3.Row:
    """The collection of that id.

    Raises:
        Refusal: if there is none.
    """
    found = by_number(context.tx, ids.number("ArtifactCollection", collection_id))
    if found is None:
        raise Refusal("artifact collection not found", status=404)
    return found


def update(context: Context, row: sqlite3.Row, values: Arguments) -> sqlite3.Row:
    """Changes a collection's name and description, if they are given; returns it as it is then."""
    name = values.text("name") or row["name"]
    if name != row["name"] and find(context.tx, row["entity_name"], row["project_name"], name) is not None:
        raise Refusal(f"the project has another collection named {name!r:.140}")
    description = values.text("description") if "description" in values else row["description"]
    return change(context, row, name=checked_name("a collection", name), description=description)


def change(context: Context, row: sqlite3.Row, **columns: object) -> sqlite3.Row:
    """Sets columns of a collection; returns it as it is then."""
    assignments = ", ".join(f"{column} = ?" for column in columns)
    context.tx.execute(
        f"UPDATE artifact_collections SET {assignments}, updated_at = ? WHERE id = ?",  # noqa: S608 - our own names
        (*columns.values(), context.now, row["id"]),
    )
    changed = by_number(context.tx, row["id"])
    assert changed is not None  # noqa: S101 - changed in this transaction
    return changed


def add_tags(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `createArtifactCollectionTagAssignments`."""
    row, tags = _tagged(context, arguments.nested("input"))
    change(context, row, tags=json.dumps(list(dict.fromkeys([*json.loads(row["tags"]), *tags]))))
    return {"tags": [tag_fields(tag) for tag in tags]}


def delete_tags(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `deleteArtifactCollectionTagAssignments`."""
    row, tags = _tagged(context, arguments.nested("input"))
    change(context, row, tags=json.dumps([tag for tag in json.loads(row["tags"]) if tag not in tags]))
    return {"success": True}


def tag_fields(tag: str) -> Mapping[str, object]:
    """A tag, as the API shows it."""
    return {"__typename": "Tag", "id": ids.encoded("Tag", tag), "name": tag}


def _tagged(context: Context, values: Arguments) -> tuple[sqlite3.Row, list[str]]:
    name = values.required_text("artifactCollectionName")
    found = find(context.tx, values.text("entityName"), values.text("projectName"), name)
    if found is None:
        raise Refusal(f"artifact collection {name!r:.140} not found", status=404)
    return found, [tag.required_text("tagName") for tag in values.nested_list("tags")]
