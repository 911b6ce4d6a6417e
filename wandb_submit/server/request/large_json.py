"""Large texts of JSON, of which a request needs little more than to store them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from wandb_submit.server.storage.client_json import read_object
from wandb_submit.server.storage.refusals import Refusal

# A text is large from so many letters on. Smaller entries of a large object are kept beside it.
LETTERS = 64 * 1024
_SMALL_ENTRY = 4096


class LargeText(str):
    """A JSON object as text, fit for storing; what is small of it has been read.

    Attributes:
        names: of all its entries.
        small: those entries that are small.
    """

    names: frozenset[str]
    small: Mapping[str, object]


def large_text(text: str) -> str:
    """A `LargeText`, if a text is a JSON object; else the text. Takes long."""
    try:
        value = read_object(text, "it")
    except Refusal:
        return text
    written = {name: json.dumps(entry) for name, entry in value.items()}
    large = LargeText("{" + ", ".join(f"{json.dumps(name)}: {entry}" for name, entry in written.items()) + "}")
    large.names = frozenset(value)
    large.small = {name: value[name] for name, entry in written.items() if len(entry) <= _SMALL_ENTRY}
    return large


def entries(text: str, what: str) -> Mapping[str, object]:
    """The entries of an object that is given as text; of a large one only the small ones."""
    return text.small if isinstance(text, LargeText) else read_object(text, what)


def over(text: str, beneath: Mapping[str, object], what: str) -> str:
    """The text of an object with those entries of another one that it lacks."""
    if not isinstance(text, LargeText):
        return json.dumps({**beneath, **read_object(text, what)})
    lacking = json.dumps({name: entry for name, entry in beneath.items() if name not in text.names})[1:-1]
    return f"{{{lacking}, {text[1:]}" if lacking else str(text)
