"""Answers a parsed request by walking its selections over plain mappings.

There is no schema: a field that a mapping lacks is null, and W&B's clients ignore what they did not ask for.
A mapping may hold functions; one is called with the field's arguments when, and only when, it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.document import (
    Condition,
    Document,
    Field,
    Inline,
    Literal,
    Operation,
    Selection,
    Variable,
)
from wandb_submit.server.refusals import Refusal


class UnknownFieldError(Refusal):
    """A root field that this server does not know; W&B's clients can go on without most of them."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the offline sweep server has no field {name!r}", status=200)
        self.field = name


def choose(document: Document, name: str | None) -> Operation:
    """The operation that a request means: the named one, or the only one."""
    named = [operation for operation in document.operations if name is None or operation.name == name]
    if len(named) != 1:
        raise Refusal(
            f"the request holds {len(named)} operations named {name!r}" if name else "operationName is required"
        )
    return named[0]


class Execution:
    """One operation with its variables, ready to be walked."""

    def __init__(self, document: Document, operation: Operation, variables: Mapping[str, object]) -> None:
        self._fragments = document.fragments
        self._operation = operation
        self._variables = {
            **{name: _plain(value, {}) for name, value in operation.defaults.items()},
            **variables,
        }

    def run(self, root: Callable[[str, Arguments], object]) -> dict[str, object]:
        """Resolves the operation's root fields, in order, with `root(name, arguments)`."""
        return {
            field.key: self._complete(root(field.name, self._arguments(field)), field)
            for field in self._fields(self._operation.selections)
        }

    def _node(self, node: Mapping[str, object], selections: Sequence[Selection]) -> dict[str, object]:
        answer: dict[str, object] = {}
        for field in self._fields(selections):
            value = self._complete(node.get(field.name), field)
            before = answer.get(field.key)
            # The same field asked for twice (by two fragments) is one field with both selections.
            answer[field.key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
        return answer

    def _complete(self, value: object, field: Field) -> object:
        if callable(value):
            value = value(self._arguments(field))
        if not field.selections or value is None:
            return value
        if isinstance(value, Mapping):
            return self._node(value, field.selections)
        if isinstance(value, list | tuple):
            return [None if item is None else self._node(item, field.selections) for item in value]
        raise Refusal(f"the field {field.name!r} has no fields of its own")

    def _fields(self, selections: Sequence[Selection]) -> list[Field]:
        found: list[Field] = []
        for selection in selections:
            if not self._wanted(selection.conditions):
                continue
            if isinstance(selection, Field):
                found.append(selection)
            elif isinstance(selection, Inline):
                found.extend(self._fields(selection.selections))
            elif selection.name in self._fragments:
                found.extend(self._fields(self._fragments[selection.name]))
            else:
                raise Refusal(f"the request has no fragment {selection.name!r}")
        return found

    def _wanted(self, conditions: Sequence[Condition]) -> bool:
        return all(bool(_plain(condition.value, self._variables)) is condition.wanted for condition in conditions)

    def _arguments(self, field: Field) -> Arguments:
        return Arguments({name: _plain(value, self._variables) for name, value in field.arguments.items()})


def _plain(value: Literal, variables: Mapping[str, object]) -> object:
    """A literal with its variables put in."""
    match value:
        case Variable(name):
            return variables.get(name)
        case list():
            return [_plain(item, variables) for item in value]
        case dict():
            return {name: _plain(item, variables) for name, item in value.items()}
        case _:
            return value
