"""JSON that clients send inside of strings, made fit for storing: SQLite's functions read it again."""

from __future__ import annotations

import json
import math
import re

from wandb_submit.server.refusals import Refusal

# What may be a number too large for Python (or a text that looks like one, which costs no more than time). Apart, for
# one expression for both takes five times as long.
_EXPONENT = re.compile(r"[eE]\+?\d{3}")
_MANY_DIGITS = re.compile(r"(?<!\d)\d{300}")


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


def storable(line: str, what: str) -> tuple[dict[str, object], str]:
    """The value of a line that must be a JSON object, and the text to store for it: mostly the line itself.

    Runs log thousands of lines a second, and few hold what `read` is there for.

    Raises:
        Refusal: if it is not an object; it says `what` is not.
    """
    if line.isascii() and not _may_be_unfit(line):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise Refusal(f"{what} is not JSON: {line[:60]!r}") from error
        if isinstance(value, dict):
            return value, line
    plain = read_object(line, what)
    return plain, json.dumps(plain)


def _may_be_unfit(line: str) -> bool:
    """Whether a line may hold a number that is none of JSON's, or none that Python can hold."""
    if "NaN" in line or "Infinity" in line or _EXPONENT.search(line):
        return True
    return len(line) >= 300 and _MANY_DIGITS.search(line) is not None


def _number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else str(number)
