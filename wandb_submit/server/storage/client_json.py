"""JSON that clients send, also inside of strings, made fit for storing: SQLite and every later reader must bear it.

Three things that Python reads, others do not: numbers that no double can hold, half of a surrogate pair (which is in
no UTF-8), and values that are nested very deeply.
"""

from __future__ import annotations

import json
import math
import re

from wandb_submit.server.storage.refusals import Refusal

# What may be a number too large for a double (or a text that looks like one, which costs no more than time). Apart,
# for one expression for both takes five times as long.
_EXPONENT = re.compile(r"[eE]\+?\d{3}")
_MANY_DIGITS = re.compile(r"(?<!\d)\d{300}")
# One escape after the other, so that a backslash which is escaped itself begins none. Six letters: half of a pair.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|u[dD][89a-fA-F][\da-fA-F]{2}|.)", re.DOTALL
)
_HALF, _REPLACEMENT = 6, r"\ufffd"
# SQLite's JSON functions end at 1,000 levels, Python at as many or more.
_MAX_LEVELS = 500


def whole_pairs(text: str) -> str:
    """A JSON text whose halves of surrogate pairs are replaced, as decoders of UTF-8 replace what they cannot read."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return _ESCAPE.sub(lambda found: _REPLACEMENT if len(found[0]) == _HALF else found[0], text)


def read(text: str, what: str) -> object:
    """The value of a JSON text.

    NaN and the infinities are not JSON, and SQLite would stumble over them: they become strings, which is how
    W&B's clients write them. A number that no double can hold becomes one of them, or, if it is a whole number, the
    string of its digits.

    Raises:
        Refusal: if it is not JSON, or nested too deeply; it says `what` is not.
    """
    return _read(text, what, unfit=_may_be_unfit(text))


def _read(text: str, what: str, *, unfit: bool) -> object:
    try:
        if unfit:
            value = json.loads(whole_pairs(text), parse_constant=str, parse_float=_number, parse_int=_whole_number)
        else:
            value = json.loads(text)
    except ValueError as error:
        raise Refusal(f"{what} is not JSON: {text[:60]!r}") from error
    if text.count("[") + text.count("{") > _MAX_LEVELS and _levels(value) > _MAX_LEVELS:
        raise Refusal(f"{what} is nested too deeply: at most {_MAX_LEVELS} levels are kept")
    return value


def read_object(text: str, what: str) -> dict[str, object]:
    """The value of a JSON text that must be an object.

    Raises:
        Refusal: if it is not; it says `what` is not.
    """
    return _object(read(text, what), text, what)


def _object(value: object, text: str, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Refusal(f"{what} is not a JSON object: {text[:60]!r}")
    return value


def storable(line: str, what: str) -> tuple[dict[str, object], str]:
    """The value of a line that must be a JSON object, and the text to store for it: mostly the line itself.

    Runs log thousands of lines a second, and few hold what `read` is there for.

    Raises:
        Refusal: if it is not an object; it says `what` is not.
    """
    unfit = _may_be_unfit(line)
    plain = _object(_read(line, what, unfit=unfit), line, what)
    return plain, line if line.isascii() and not unfit else json.dumps(plain)


def _may_be_unfit(text: str) -> bool:
    """Whether a text may hold what Python reads and others do not."""
    if "NaN" in text or "Infinity" in text or "\\ud" in text or "\\uD" in text or _EXPONENT.search(text):
        return True
    return len(text) >= 300 and _MANY_DIGITS.search(text) is not None


def _number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"


def _whole_number(text: str) -> int | str:
    # Of few digits it is one; Python refuses to read very many.
    return int(text) if len(text) < 300 or math.isfinite(float(text)) else text


def _levels(value: object) -> int:
    """How deeply a value is nested."""
    levels, inner = 0, [value]
    while inner := [one for one in inner if isinstance(one, dict | list)]:
        levels += 1
        inner = [deeper for one in inner for deeper in (one.values() if isinstance(one, dict) else one)]
    return levels
