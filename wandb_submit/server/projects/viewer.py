"""The one user that this server knows, the user's team, and what the server says about itself."""

from __future__ import annotations

from collections.abc import Mapping

from wandb_submit.server.control.settings import DEFAULT_ENTITY
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.executor import ABSENT
from wandb_submit.server.request.context import Context

# What clients ask about before they use it, by W&B's names (wandb/proto/wandb_internal.proto, ServerFeature).
FEATURES = (
    "MARK_RUN_FILES_UPLOADED",
    "SWEEPS_LOCAL_SCHEDULER",
    "SWEEPS_QUERY_FILTERING",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "UPDATE_RUN_STATE",
)
# The clients that this server was tested with; `wandb verify` compares.
_OLDEST_CLIENT, _NEWEST_CLIENT = "0.26.0", "0.31.0"
_ID = "user-local"


def user() -> dict[str, object]:
    """The user whom every request comes from."""
    return {
        "__typename": "User",
        "id": _ID,
        "name": DEFAULT_ENTITY,
        "username": DEFAULT_ENTITY,
        "entity": DEFAULT_ENTITY,
        "email": "",
        "admin": False,
        "flags": "{}",
        "deletedAt": None,
        # A name for the key; the key itself is told to nobody.
        "apiKeys": {"edges": [{"node": {"id": "key-local", "name": DEFAULT_ENTITY, "description": None}}]},
        "teams": {"edges": [{"node": {"name": DEFAULT_ENTITY}}]},
        "organizations": [],
        "projects": ABSENT,
    }


def viewer(_context: Context, _arguments: Arguments) -> Mapping[str, object]:
    """Query `viewer`."""
    return user()


def users(_context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Query `users`: those whose name begins or ends like that."""
    wanted = arguments.text("query") or ""
    known = DEFAULT_ENTITY.startswith(wanted) or DEFAULT_ENTITY.endswith(wanted)
    return {"edges": [{"node": user()}] if known else []}


def entity(_context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Query `entity`: every name is one, none belongs to an organization, and the one user is a member of all."""
    name = arguments.text("name") or DEFAULT_ENTITY
    return {
        "__typename": "Entity",
        "id": f"entity-{name}",
        "name": name,
        "organization": None,
        "user": user() if name == DEFAULT_ENTITY else None,
        "available": True,
        "readOnly": False,
        "readOnlyAdmin": False,
        "isTeam": name != DEFAULT_ENTITY,
        "entityType": "user" if name == DEFAULT_ENTITY else "team",
        "privateOnly": False,
        "storageBytes": 0,
        "codeSavingEnabled": True,
        "defaultAccess": "PRIVATE",
        "isPaid": False,
        "photoUrl": None,
        "xxhashDigestsEnabled": False,
        # Of registries, automations and launch.
        **dict.fromkeys(("project", "projects", "triggers", "integrations", "defaultResourceConfig"), ABSENT),
        "members": [
            {
                "id": _ID,
                "admin": True,
                "pending": False,
                "email": "",
                "username": DEFAULT_ENTITY,
                "name": DEFAULT_ENTITY,
                "photoUrl": None,
                "accountType": "USER",
                "apiKey": None,
            }
        ],
    }


def server_info(_context: Context, _arguments: Arguments) -> Mapping[str, object]:
    """Query `serverInfo`: the features that clients ask about."""
    return {
        "features": [{"name": name, "isEnabled": True} for name in FEATURES],
        "latestLocalVersionInfo": None,
        "cliVersionInfo": {"min_cli_version": _OLDEST_CLIENT, "max_cli_version": _NEWEST_CLIENT},
    }
