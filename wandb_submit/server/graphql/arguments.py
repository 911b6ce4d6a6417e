"""The arguments of a field, read with the type that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from wandb_submit.server.storage.client_json import read_object
from wandb_submit.server.storage.refusals import Refusal

_T = TypeVar("_T")
_MAX_INTEGER = 2**62


class Arguments:
    """What a field was given; every reader answers None (or its default) for null and for absent."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """A string; numbers are taken too, since `ID` allows them."""
        value = self._values.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self._typed(name, str, "a string")

    def required_text(self, name: str) -> str:
        """A string that must be there and not be empty."""
        value = self.text(name)
        if not value:
            raise Refusal(f"{name} is required")
        return value

    def flag(self, name: str) -> bool:
        """A yes or no; absent means no."""
        return bool(self._typed(name, bool, "true or false"))

    def integer(self, name: str, default: int) -> int:
        """A whole number that the database can hold."""
        value = self._typed(name, int, "a whole number")
        if value is not None and abs(value) > _MAX_INTEGER:
            raise Refusal(f"{name} is too large: {value}")
        return default if value is None else value

    def number(self, name: str) -> float:
        """A number that must be there."""
        value = self._values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _MAX_INTEGER:
            raise Refusal(f"{name} must be a number, not {value!r:.60}")
        return value

    def texts(self, name: str) -> list[str] | None:
        """A list of strings; GraphQL lets a single one stand for a list of one."""
        value = self._values.get(name)
        if isinstance(value, str):
            return [value]
        items = self._typed(name, list, "a list of strings")
        if items is not None and not all(isinstance(item, str) for item in items):
            raise Refusal(f"{name} must be a list of strings")
        return items

    def json_text(self, name: str) -> str | None:
        """The text of a `JSONString`, for what is only stored (see `large_json`)."""
        text = self.text(name)
        return None if text is None or text.strip() == "null" else text

    def json_object(self, name: str) -> dict[str, object] | None:
        """A `JSONString` that holds an object."""
        text = self.json_text(name)
        return None if text is None else read_object(text, name)

    def nested(self, name: str) -> Arguments:
        """An input object, such as every mutation's `input`."""
        return Arguments(self._typed(name, dict, "an object") or {})

    def nested_list(self, name: str) -> list[Arguments]:
        """A list of input objects."""
        items = self._typed(name, list, "a list of objects") or []
        if not all(isinstance(item, dict) for item in items):
            raise Refusal(f"{name} must be a list of objects")
        return [Arguments(item) for item in items]

    def _typed(self, name: str, kind: type[_T], wanted: str) -> _T | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Refusal(f"{name} must be {wanted}, not {value!r:.60}")
        return value
