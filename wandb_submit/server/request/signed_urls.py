"""Addresses that may be read without the key, for a while: W&B's clients expect such of an artifact's files.

At W&B these are signed addresses of a cloud's storage, and the clients send no key there. Ours are signed with the
key, name one file each, allow reading it and nothing else, and do not tell the key.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import quote, urlencode

from starlette.requests import Request

# Long enough to download what was listed at once, 1,000 files.
_LIFETIME_S = 24 * 3600
# More seconds than these are no time.
_MAX_DIGITS = 12


def signed_url(base_url: str, path: str, key: str) -> str:
    """The address of a path (not yet quoted) that needs no key until tomorrow."""
    expires = int(time.time()) + _LIFETIME_S
    query = urlencode({"expires": expires, "signature": _signature(path, expires, key)})
    return f"{base_url}{quote(path)}?{query}"


def is_signed(request: Request, key: str) -> bool:
    """Whether a request is for reading what a signed address names, in time."""
    expires, signature = request.query_params.get("expires", ""), request.query_params.get("signature", "")
    return (
        request.method in ("GET", "HEAD")
        and expires.isascii()
        and expires.isdecimal()
        and len(expires) <= _MAX_DIGITS
        and int(expires) >= time.time()
        and hmac.compare_digest(signature.encode(), _signature(request.scope["path"], int(expires), key).encode())
    )


def _signature(path: str, expires: int, key: str) -> str:
    return hmac.new(key.encode(), f"signed\n{expires}\n{path}".encode(), hashlib.sha256).hexdigest()
