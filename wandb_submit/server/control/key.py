"""The API key: made once per data folder, demanded from every client."""

from __future__ import annotations

import re
import secrets
import stat
from pathlib import Path

from wandb_submit.errors import ConfigError
from wandb_submit.system.files import write_private

_FILE = "api_key"
_SHOWN_FILE = "api_key_shown"
_BYTES = 20
# What wandb's clients take for a key (0.31).
_KEY = re.compile(r"[A-Za-z0-9_-]{40,512}")
_MAX_BYTES = 1024
_REMEDY = "Restore it from a backup, or delete it: the next start makes a new key"


def api_key(data_dir: Path) -> str:
    """The folder's key, made at the first call; only the owner may read its file.

    Raises:
        ConfigError: if the file is there and holds none: clients may know the one that it held.
    """
    path = data_dir / _FILE
    try:
        with path.open("rb") as file:
            key = file.read(_MAX_BYTES).decode(errors="replace").strip()
    except FileNotFoundError:
        key = secrets.token_hex(_BYTES)
        write_private(path, key + "\n")
    except OSError as error:
        raise ConfigError(f"cannot read the API key in {path}: {error.strerror or error}. {_REMEDY}") from error
    if not _KEY.fullmatch(key):
        raise ConfigError(f"{path} holds no API key, which has 40 letters or more of A-Z a-z 0-9 _ -. {_REMEDY}")
    return key


def close_to_others(data_dir: Path) -> str | None:
    """Lets nobody but its owner read the key's file; returns what there is to say if others could."""
    path = data_dir / _FILE
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & 0o077:
            return None
        path.chmod(0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot close {path} to other users: {error.strerror or error}. {_REMEDY}") from error
    return (
        f"other users could read the API key in {path} (mode {mode:04o}): now only you can. "
        "If somebody may have read it, stop the server and delete the file: the next start makes a new key"
    )


def is_first_showing(data_dir: Path) -> bool:
    """Whether nobody has been shown the folder's key yet; from now on, somebody has."""
    try:
        (data_dir / _SHOWN_FILE).touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        return False
    return True
