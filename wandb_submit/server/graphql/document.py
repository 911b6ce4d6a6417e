"""What a GraphQL request says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Variable:
    """A `$name` that stands where a value is expected."""

    name: str


# A literal as Python's own scalars, lists and dicts; variables may stand anywhere inside.
Literal: TypeAlias = "bool | int | float | str | Variable | list[Literal] | dict[str, Literal] | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """An `@include(if: …)`, or with `wanted=False` a `@skip(if: …)`."""

    value: Literal
    wanted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One asked-for field; `key` is the name that the answer gives it (the alias, if there is one)."""

    key: str
    name: str
    arguments: Mapping[str, Literal] = field(default_factory=dict)
    selections: tuple[Selection, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A `...Name`: the fragment's fields stand here."""

    name: str
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Inline:
    """A `... on Type { … }`. The type is not looked at: no field of ours means two things."""

    selections: tuple[Selection, ...]
    conditions: tuple[Condition, ...] = ()


Selection: TypeAlias = "Field | Spread | Inline"


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One `query` or `mutation`."""

    kind: str
    name: str | None
    defaults: Mapping[str, Literal]
    selections: tuple[Selection, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A request's text: its operations and the fragments that they share."""

    operations: tuple[Operation, ...]
    fragments: Mapping[str, tuple[Selection, ...]]
