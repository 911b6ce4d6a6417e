"""How a client shows the API key in a request, and whether it is the right one."""

from __future__ import annotations

import base64
import binascii
import hmac


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
