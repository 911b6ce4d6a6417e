"""JSON that clients send inside of strings, made fit for storing: SQLite's functions read it again."""

from __future__ import annotations

import json
import math

from wandb_submit.server.refusals import Refusal


def read(text: str, what: str) -> object:
    """The value of a JSON text.

    NaN and the infinities are not JSON, and SQLite would stumble over them: they become strings, which is how
    W&B's clients write them. A number too large for Python is one of them.

    Raises:
        Refusal: if it is not JSON; it says `what` is not.
    """
    try:
        return json.loads(text, parse_constant=str, parse_float=_number)
    except ValueError as error:
        raise Refusal(f"{what} is not JSON: {text[:60]!r}") from error


def read_object(text: str, what: str) -> dict[str, object]:
    """The value of a JSON text that must be an object.

    Raises:
        Refusal: if it is not; it says `what` is not.
    """
    value = read(text, what)
    if not isinstance(value, dict):
        raise Refusal(f"{what} is not a JSON object: {text[:60]!r}")
    return value


def _number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else str(number)
