"""Entities and projects: they exist as soon as something is put into them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

from wandb_submit.server.control.settings import DEFAULT_ENTITY, DEFAULT_PROJECT
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.executor import ABSENT
from wandb_submit.server.graphql.not_offered import NO_REGISTRIES, REGISTRY_PREFIX
from wandb_submit.server.projects.viewer import user
from wandb_submit.server.request.context import Context
from wandb_submit.server.request.pages import connection
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.timestamps import iso

# W&B refuses these in project names, and "." and ".." would leave our folders.
_FORBIDDEN = re.compile(r"[/\\#?%:\x00-\x1f]|^\.{1,2}$|^$")
_MAX_LENGTH = 128
# What file systems allow for a folder's name.
_MAX_BYTES = 255


def checked_name(kind: str, name: str) -> str:
    """The name of an entity, project or run, which must be fit for a folder's.

    Raises:
        Refusal: if it is not.
    """
    if len(name) > _MAX_LENGTH or len(name.encode()) > _MAX_BYTES or _FORBIDDEN.search(name):
        raise Refusal(f"{name[:_MAX_LENGTH]!r} cannot be the name of {kind}: no / \\ # ? % : and at most 128 letters")
    return name


def find(tx: Transaction, entity: str | None, name: str | None) -> sqlite3.Row | None:
    """The project of that name, if there is one."""
    return tx.one(
        "SELECT * FROM projects WHERE entity = ? AND name = ?",
        (entity or DEFAULT_ENTITY, name or DEFAULT_PROJECT),
    )


def find_or_create(context: Context, entity: str | None, name: str | None) -> sqlite3.Row:
    """The project of that name, made if need be."""
    found = find(context.tx, entity, name)
    if found is None and (name or "").startswith(REGISTRY_PREFIX):
        raise Refusal(NO_REGISTRIES, status=200)
    if found is None:
        context.tx.execute(
            "INSERT INTO projects (entity, name, created_at) VALUES (?, ?, ?)",
            (
                checked_name("an entity", entity or DEFAULT_ENTITY),
                checked_name("a project", name or DEFAULT_PROJECT),
                context.now,
            ),
        )
        found = find(context.tx, entity, name)
        assert found is not None  # noqa: S101 - it was inserted in this transaction
    return found


def project_fields(row: sqlite3.Row) -> dict[str, object]:
    """A project's own fields, without what it holds."""
    return {
        "__typename": "Project",
        "id": f"project-{row['id']}",
        "internalId": str(row["id"]),
        "name": row["name"],
        "entityName": row["entity"],
        "entity": {"__typename": "Entity", "id": f"entity-{row['entity']}", "name": row["entity"]},
        "createdAt": iso(row["created_at"]),
        "isBenchmark": False,
        "readOnly": False,
        "description": None,
        "access": "PRIVATE",
        "views": "{}",
        "repo": None,
        "dockerImage": None,
        "user": user(),
        # Reports, which this server has none of.
        "allViews": lambda wanted: connection("View", [], wanted),
        # Of launch and registries.
        **dict.fromkeys(("runQueue", "runQueues", "members", "teamMembers"), ABSENT),
    }


def upsert_model(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `upsertModel`: W&B's old word for a project."""
    values = arguments.nested("input")
    entity, name = values.text("entityName"), values.required_text("name")
    inserted = find(context.tx, entity, name) is None
    fields = project_fields(find_or_create(context, entity, name))
    return {"project": fields, "model": fields, "inserted": inserted}


def models(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Query `models`: an entity's projects."""
    rows = context.tx.rows(
        "SELECT * FROM projects WHERE entity = ? ORDER BY id",
        (arguments.text("entityName") or DEFAULT_ENTITY,),
    )
    return connection("Project", [project_fields(row) for row in rows], arguments)
