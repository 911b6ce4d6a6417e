"""Regular expressions in filters, safe against patterns that would take for ever.

Python's own engine can take hours over a few letters, and nothing can interrupt it. Pydantic brings Rust's, whose
time is linear in the text: it knows neither look-around nor back-references.
"""

from __future__ import annotations

import functools
from typing import Protocol

from wandb_submit.server.storage.refusals import Refusal

# The longest pattern; the engine bounds what it takes to compile one.
_MAX_PATTERN = 1000
# Of a longer text only so much is looked at: a config can hold megabytes.
_MAX_TEXT = 100_000


class _Pattern(Protocol):
    def isinstance_python(self, value: str, /) -> bool: ...


def checked_pattern(pattern: object, options: object) -> str:
    """A pattern with MongoDB's options (`i`, `m`, `s`, `x`) in it.

    Raises:
        Refusal: if it is none that this server's engine knows; the message says why.
    """
    if not isinstance(pattern, str) or not isinstance(options, str) or not set(options) <= set("imsx"):
        raise Refusal(
            f"$regex needs a text, and $options some of the letters imsx, not {pattern!r:.60}, {options!r:.60}"
        )
    if len(pattern) > _MAX_PATTERN:
        raise Refusal(f"the pattern of a $regex has at most {_MAX_PATTERN} letters")
    whole = f"(?{options}){pattern}" if options else pattern
    _compiled(whole)
    return whole


def matches(pattern: str, text: object) -> bool:
    """Whether a pattern that was checked matches anywhere in a text; SQLite's `text REGEXP pattern`."""
    return isinstance(text, str) and _compiled(pattern).isinstance_python(text[:_MAX_TEXT])


@functools.lru_cache(maxsize=64)
def _compiled(pattern: str) -> _Pattern:
    # Pydantic takes a while to import, and few servers ever see a pattern.
    from pydantic_core import SchemaError, SchemaValidator

    try:
        return SchemaValidator({"type": "str", "pattern": pattern})
    except SchemaError as error:
        reason = str(error).rpartition("error: ")[2].splitlines()[0]
        raise Refusal(f"{pattern[:100]!r} is not a pattern for $regex here: {reason}") from error
