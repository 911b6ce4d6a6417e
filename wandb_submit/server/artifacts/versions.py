"""The versions of a collection: which artifact is `NAME:v3`, and links from portfolios to artifacts."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from wandb_submit.server.artifacts import aliases, collection, ids
from wandb_submit.server.artifacts.artifact import by_client_id
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal


def named(tx: Transaction, collection_number: int, alias: str) -> sqlite3.Row | None:
    """The version of a collection that an alias or `v3` means."""
    number = aliases.version_of(tx, collection_number, alias)
    return tx.one("SELECT * FROM artifact_versions WHERE collection = ? AND version = ?", (collection_number, number))


def by_name(tx: Transaction, entity: str, project: str, name: str) -> sqlite3.Row | None:
    """The version that `NAME:ALIAS` means in a project; without an alias it is the latest."""
    base, _, alias = name.partition(":")
    found = collection.find(tx, entity, project, base)
    return None if found is None else named(tx, found["id"], alias or aliases.LATEST)


def link_artifact(context: Context, arguments: Arguments) -> sqlite3.Row:
    """Makes an artifact a version of a portfolio, as `linkArtifact` asks; returns the version.

    An artifact that is linked there already stays the version that it is.
    """
    values = arguments.nested("input")
    client_id = values.text("clientID")
    linked = None if client_id is None else by_client_id(context.tx, client_id)
    if linked is None:
        linked = ids.number("Artifact", values.required_text("artifactID"))
    kind = context.tx.one(
        "SELECT type FROM artifacts JOIN artifact_collections ON artifact_collections.id = sequence"
        " WHERE artifacts.id = ? AND state = 'COMMITTED'",
        (linked,),
    )
    if kind is None:
        raise Refusal("an artifact can be linked when it has been logged as a whole")
    portfolio = collection.find_or_create(
        context,
        (values.text("entityName"), values.text("projectName")),
        values.required_text("artifactPortfolioName"),
        kind["type"],
        portfolio=True,
    )
    version = aliases.add_version(context, portfolio["id"], linked)
    wanted = [alias.required_text("alias") for alias in values.nested_list("aliases")]
    aliases.put(context, portfolio["id"], version["version"], wanted)
    return version


def unlink_artifact(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `unlinkArtifact`: takes an artifact out of a portfolio."""
    values = arguments.nested("input")
    portfolio = collection.required(context, values.required_text("artifactPortfolioID"))
    artifact = ids.number("Artifact", values.required_text("artifactID"))
    if not portfolio["portfolio"]:
        raise Refusal(f"{portfolio['name']!r} is where the artifact was logged: delete it instead")
    gone = context.tx.one(
        "SELECT version FROM artifact_versions WHERE collection = ? AND artifact = ?", (portfolio["id"], artifact)
    )
    if gone is None:
        raise Refusal(f"the artifact is not linked to {portfolio['name']!r}", status=404)
    aliases.remove_version(context.tx, portfolio["id"], gone["version"])
    return {"success": True}
