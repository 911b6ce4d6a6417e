"""The API key: made once per data folder, demanded from every client."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from pathlib import Path

from wandb_submit.files import write_private

_FILE = "api_key"
_SHOWN_FILE = "api_key_shown"
# wandb's clients want at least 40 letters, digits or underscores.
_BYTES = 20


def api_key(data_dir: Path) -> str:
    """The folder's key, made at the first call; only the owner may read its file."""
    path = data_dir / _FILE
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        key = ""
    if len(key) >= 2 * _BYTES:
        return key
    key = secrets.token_hex(_BYTES)
    write_private(path, key + "\n")
    return key


def is_first_showing(data_dir: Path) -> bool:
    """Whether nobody has been shown the folder's key yet; from now on, somebody has."""
    try:
        (data_dir / _SHOWN_FILE).touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        return False
    return True


def authorization(key: str) -> str:
    """The `Authorization` header of a client that has the key."""
    return "Basic " + base64.b64encode(f"api:{key}".encode()).decode()


def is_authorized(header: str | None, key: str) -> bool:
    """Whether an `Authorization` header is HTTP Basic with the user `api` and the key, as W&B's clients send it."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(password, key.encode()) and user == b"api"
