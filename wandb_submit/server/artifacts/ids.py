"""Ids of artifacts and what belongs to them, as the API shows them: base64, which W&B's clients rely on."""

from __future__ import annotations

import base64

from wandb_submit.server.storage.refusals import Refusal

# The database has no larger numbers.
_MAX_DIGITS = 18


def encoded(kind: str, number: int | str) -> str:
    """The id of one of a kind."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def number(kind: str, text: str) -> int:
    """The number in an id.

    Raises:
        Refusal: if it is no id of that kind.
    """
    try:
        found, _, digits = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        found = digits = ""
    if found != kind or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_DIGITS:
        raise Refusal(f"{text[:60]!r} is not the id of an {kind}", status=404)
    return int(digits)
