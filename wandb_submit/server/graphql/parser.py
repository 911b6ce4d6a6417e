"""From a GraphQL request's text to a `Document`: executable documents only, no type definitions.

https://spec.graphql.org/October2021/#sec-Document-Syntax is the grammar. This reads the fifth of it that a
client can send; the usual library for it costs 0.13 s of start-up and 150 modules, for its parser alone.
"""

from __future__ import annotations

import functools
import json
import re
import textwrap

from wandb_submit.server.graphql.document import (
    Condition,
    Document,
    Field,
    Inline,
    Literal,
    Operation,
    Selection,
    Spread,
    Variable,
)
from wandb_submit.server.refusals import Refusal

_TOKEN = re.compile(
    r"""
    (?P<ignored> [\s,\ufeff]+ | \#[^\n]* )
  | (?P<block> \"\"\" (?: \\\"\"\" | (?!\"\"\") [\s\S] )* \"\"\" )
  | (?P<string> " (?: [^"\\\n] | \\. )* " )
  | (?P<float> -?\d+ (?: \.\d+ (?:[eE][+-]?\d+)? | [eE][+-]?\d+ ) )
  | (?P<int> -?\d+ )
  | (?P<name> [_A-Za-z][_0-9A-Za-z]* )
  | (?P<mark> \.\.\. | [!$&()\[\]{}:=@|] )
    """,
    re.VERBOSE,
)
_NAMED_VALUES: dict[str, Literal] = {"true": True, "false": False, "null": None}
# Deeper than any client's request; without a limit a hostile one would exhaust Python's stack.
_MAX_DEPTH = 64


@functools.lru_cache(maxsize=512)
def parse(text: str) -> Document:
    """Reads a request's text.

    Clients send the same few dozen texts over and over, so the last ones are remembered.

    Raises:
        Refusal: if the text is not a GraphQL request; the message says where.
    """
    return _Reader(text).document()


class _Reader:
    """Walks over one text's tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def document(self) -> Document:
        operations: list[Operation] = []
        fragments: dict[str, tuple[Selection, ...]] = {}
        while self._kind() != "end":
            if self._kind() == "mark":
                operations.append(Operation(kind="query", name=None, defaults={}, selections=self._selections()))
            elif self._accept("fragment"):
                name = self._name()
                self._expect("on")
                self._name()
                self._conditions()
                fragments[name] = self._selections()
            else:
                operations.append(self._operation())
        if not operations:
            raise Refusal("the request holds no operation")
        return Document(operations=tuple(operations), fragments=fragments)

    def _operation(self) -> Operation:
        kind = self._name()
        if kind not in ("query", "mutation"):
            raise Refusal(f"a query or a mutation is expected, not {kind!r}")
        name = self._name() if self._kind() == "name" else None
        defaults: dict[str, Literal] = {}
        if self._accept("("):
            while not self._accept(")"):
                self._expect("$")
                variable = self._name()
                self._expect(":")
                self._type()
                if self._accept("="):
                    defaults[variable] = self._value()
                self._conditions()
        self._conditions()
        return Operation(kind=kind, name=name, defaults=defaults, selections=self._selections())

    def _type(self) -> None:
        """Passes over a variable's type: the fields check the values that they are given."""
        if self._accept("["):
            self._type()
            self._expect("]")
        else:
            self._name()
        self._accept("!")

    def _selections(self) -> tuple[Selection, ...]:
        self._expect("{")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Refusal(f"the request is nested deeper than {_MAX_DEPTH} levels")
        found: list[Selection] = []
        while not self._accept("}"):
            found.append(self._fragment() if self._accept("...") else self._field())
        self._depth -= 1
        return tuple(found)

    def _fragment(self) -> Selection:
        if self._kind() == "name" and self._text() != "on":
            return Spread(name=self._name(), conditions=self._conditions())
        if self._accept("on"):
            self._name()
        conditions = self._conditions()
        return Inline(selections=self._selections(), conditions=conditions)

    def _field(self) -> Field:
        key = name = self._name()
        if self._accept(":"):
            name = self._name()
        arguments = self._arguments()
        conditions = self._conditions()
        selections = self._selections() if self._text() == "{" else ()
        return Field(key=key, name=name, arguments=arguments, selections=selections, conditions=conditions)

    def _arguments(self) -> dict[str, Literal]:
        found: dict[str, Literal] = {}
        if self._accept("("):
            while not self._accept(")"):
                name = self._name()
                self._expect(":")
                found[name] = self._value()
        return found

    def _conditions(self) -> tuple[Condition, ...]:
        """Reads directives and keeps the two that decide whether a field is answered."""
        found = []
        while self._accept("@"):
            name = self._name()
            arguments = self._arguments()
            if name in ("include", "skip") and "if" in arguments:
                found.append(Condition(value=arguments["if"], wanted=name == "include"))
        return tuple(found)

    def _value(self) -> Literal:
        kind, text = self._take()
        match kind:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "string":
                return _unquote(text)
            case "block":
                return textwrap.dedent(text[3:-3].replace('\\"""', '"""')).strip("\n")
            case "name":
                return _NAMED_VALUES.get(text, text)
        if text == "$":
            return Variable(self._name())
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Refusal(f"the request is nested deeper than {_MAX_DEPTH} levels")
        if text == "[":
            items: list[Literal] = []
            while not self._accept("]"):
                items.append(self._value())
            self._depth -= 1
            return items
        if text == "{":
            entries: dict[str, Literal] = {}
            while not self._accept("}"):
                name = self._name()
                self._expect(":")
                entries[name] = self._value()
            self._depth -= 1
            return entries
        raise Refusal(f"a value is expected, not {text or 'the end of the request'!r}")

    def _kind(self) -> str:
        return self._tokens[self._at][0]

    def _text(self) -> str:
        return self._tokens[self._at][1]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        if token[0] != "end":
            self._at += 1
        return token

    def _accept(self, text: str) -> bool:
        """Passes over the next token if it is this name or mark."""
        kind, found = self._tokens[self._at]
        if found != text or kind not in ("name", "mark"):
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise Refusal(f"{text!r} is expected, not {self._text() or 'the end of the request'!r}")

    def _name(self) -> str:
        kind, text = self._take()
        if kind != "name":
            raise Refusal(f"a name is expected, not {text or 'the end of the request'!r}")
        return text


def _tokens(text: str) -> list[tuple[str, str]]:
    """Cuts a text into (kind, text) pairs, closed by an `end`."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Refusal(f"the request cannot be read at {text[at : at + 20]!r}")
        kind = str(match.lastgroup)
        if kind != "ignored":
            found.append((kind, match.group()))
        at = match.end()
    found.append(("end", ""))
    return found


def _unquote(text: str) -> str:
    """The text of a quoted string: GraphQL's escapes are JSON's."""
    try:
        return str(json.loads(text, strict=False))
    except ValueError as error:
        raise Refusal(f"the string {text[:40]} cannot be read") from error
