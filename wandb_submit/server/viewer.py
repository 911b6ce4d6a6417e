"""The one user that this server knows, and what it says about itself."""

from __future__ import annotations

from collections.abc import Mapping

from wandb_submit.server.context import Context
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.settings import DEFAULT_ENTITY


def user() -> dict[str, object]:
    """The user whom every request comes from."""
    return {
        "__typename": "User",
        "id": "user-local",
        "name": DEFAULT_ENTITY,
        "username": DEFAULT_ENTITY,
        "entity": DEFAULT_ENTITY,
        "email": "",
        "admin": False,
        "flags": "{}",
        "deletedAt": None,
        "apiKeys": {"edges": []},
        "teams": {"edges": []},
    }


def viewer(_context: Context, _arguments: Arguments) -> Mapping[str, object]:
    """Query `viewer`."""
    return user()


def entity(_context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Query `entity`: every name is one, none belongs to an organization."""
    name = arguments.text("name") or DEFAULT_ENTITY
    return {"__typename": "Entity", "id": f"entity-{name}", "name": name, "organization": None}


def server_info(_context: Context, _arguments: Arguments) -> Mapping[str, object]:
    """Query `serverInfo`: of the features that clients ask about, this server has none."""
    return {"features": [], "latestLocalVersionInfo": None, "cliVersionInfo": {}}
