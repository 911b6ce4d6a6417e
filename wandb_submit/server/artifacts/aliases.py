"""The versions of a collection, and the names that point to one of them and move, such as `latest`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping

from wandb_submit.server.artifacts import ids
from wandb_submit.server.artifacts.collection import find as find_collection
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal

# W&B puts it on the newest version of a collection.
LATEST = "latest"
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,17})")
_MAX_LENGTH = 128


def put(context: Context, collection: int, version: int, aliases: Iterable[str]) -> None:
    """Makes aliases point to a version, whatever they pointed to before.

    Raises:
        Refusal: if one cannot be an alias.
    """
    context.tx.execute_many(
        "INSERT OR REPLACE INTO artifact_aliases (collection, alias, version) VALUES (?, ?, ?)",
        [(collection, checked_alias(alias), version) for alias in aliases if version_number(alias) != version],
    )


def checked_alias(alias: str) -> str:
    """An alias as W&B allows it.

    Raises:
        Refusal: if it is not one.
    """
    if not 0 < len(alias) <= _MAX_LENGTH or _VERSION.fullmatch(alias) or any(letter in "/:" for letter in alias):
        raise Refusal(f"{alias[:_MAX_LENGTH]!r} cannot be an alias: no / or :, no version such as v3, at most 128")
    return alias


def version_number(alias: str) -> int | None:
    """The version that `v3` names; None for any other alias."""
    found = _VERSION.fullmatch(alias)
    return int(found[1]) if found else None


def version_of(tx: Transaction, collection: int, alias: str) -> int | None:
    """The number that an alias or `v3` means; whether there is such a version is another question."""
    direct = version_number(alias)
    if direct is not None:
        return direct
    row = tx.one("SELECT version FROM artifact_aliases WHERE collection = ? AND alias = ?", (collection, alias))
    return None if row is None else int(row["version"])


def add_version(context: Context, collection: int, artifact: int) -> sqlite3.Row:
    """Makes an artifact the newest version of a collection, unless it is one of it already; returns the version."""
    tx = context.tx
    query = "SELECT * FROM artifact_versions WHERE artifact = ? AND collection = ?"
    row = tx.one(query, (artifact, collection))
    if row is None:
        tx.execute(
            "INSERT INTO artifact_versions (collection, version, artifact, created_at)"
            " SELECT id, next_version, ?, ? FROM artifact_collections WHERE id = ?",
            (artifact, context.now, collection),
        )
        tx.execute("UPDATE artifact_collections SET next_version = next_version + 1 WHERE id = ?", (collection,))
        row = tx.one(query, (artifact, collection))
        assert row is not None  # noqa: S101 - inserted in this transaction
        put(context, collection, row["version"], [LATEST])
    return row


def remove_version(tx: Transaction, collection: int, version: int) -> None:
    """Takes a version out of a collection; its number is not used again, and `latest` falls back."""
    tx.execute("DELETE FROM artifact_versions WHERE collection = ? AND version = ?", (collection, version))
    lost = "DELETE FROM artifact_aliases WHERE collection = ? AND version = ?"
    had_latest = version_of(tx, collection, LATEST) == version
    tx.execute(lost, (collection, version))
    if had_latest:
        tx.execute(
            "INSERT INTO artifact_aliases (collection, alias, version)"
            " SELECT collection, ?, MAX(version) FROM artifact_versions WHERE collection = ? GROUP BY collection",
            (LATEST, collection),
        )


def add_aliases(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `addAliases`."""
    for collection, version, alias in _wanted(context, arguments.nested("input")):
        put(context, collection, version, [alias])
    return {"success": True}


def delete_aliases(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `deleteAliases`: those that point to the artifact; others keep theirs."""
    for collection, version, alias in _wanted(context, arguments.nested("input")):
        context.tx.execute(
            "DELETE FROM artifact_aliases WHERE collection = ? AND alias = ? AND version = ?",
            (collection, alias, version),
        )
    return {"success": True}


def _wanted(context: Context, values: Arguments) -> list[tuple[int, int, str]]:
    """What a mutation names: collection, the artifact's version in it, alias."""
    artifact = ids.number("Artifact", values.required_text("artifactID"))
    wanted = []
    for alias in values.nested_list("aliases"):
        name = alias.required_text("artifactCollectionName")
        collection = find_collection(context.tx, alias.text("entityName"), alias.text("projectName"), name)
        version = collection and context.tx.one(
            "SELECT version FROM artifact_versions WHERE artifact = ? AND collection = ?", (artifact, collection["id"])
        )
        if collection is None or version is None:
            raise Refusal(f"the collection {name!r:.140} does not have that artifact", status=404)
        wanted.append((int(collection["id"]), int(version["version"]), alias.required_text("alias")))
    return wanted
