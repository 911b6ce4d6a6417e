"""Answers a request by walking its selections over plain mappings.

There is no schema: a field that a mapping lacks is null, and W&B's clients ignore what they did not ask for.
A mapping may hold functions; one is called with the field's arguments when, and only when, it is asked for. The
types that fragments name are not looked at: no field of ours means two things.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from graphql.language import (
    ArgumentNode,
    FieldNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
)
from graphql.utilities import value_from_ast_untyped

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.request import Document
from wandb_submit.server.refusals import Refusal

# How much work one request may be: the selections that are looked at, however they came to be so many. The largest
# request of W&B's clients, a page of 1,000 runs with all of their fields, comes to a thirtieth of it.
_MAX_SELECTIONS = 1_000_000
# W&B's clients ask for one to three.
_MAX_ROOT_FIELDS = 50
# A request that takes longer is not waited for, and its thread is needed.
_PATIENCE_S = 60.0


class UnknownFieldError(Refusal):
    """A root field that this server does not know; W&B's clients can go on without most of them."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the offline sweep server has no field {name!r}", status=200)
        self.field = name


class Execution:
    """One operation with its variables, ready to be walked."""

    def __init__(self, document: Document, operation: OperationDefinitionNode, variables: Mapping[str, object]) -> None:
        self._fragments = document.fragments
        self._selections = operation.selection_set
        self._variables: dict[str, object] = {
            declared.variable.name.value: None
            if declared.default_value is None
            else value_from_ast_untyped(declared.default_value)
            for declared in operation.variable_definitions or ()
        }
        self._variables.update(variables)
        self._selections_left = _MAX_SELECTIONS
        self._deadline = time.monotonic() + _PATIENCE_S

    def roots(self) -> list[tuple[str, Arguments]]:
        """The names and arguments of the operation's root fields, in the order in which they are resolved."""
        return [(field.name.value, self._arguments(field)) for field in self._fields(self._selections)]

    def run(self, root: Callable[[str, Arguments], object]) -> dict[str, object]:
        """Resolves the operation's root fields, in order, with `root(name, arguments)`.

        Raises:
            Refusal: if one of them refuses, or all of it is too much work.
        """
        answer: dict[str, object] = {}
        for number, field in enumerate(self._fields(self._selections), 1):
            if number > _MAX_ROOT_FIELDS:
                raise Refusal(f"a request asks for at most {_MAX_ROOT_FIELDS} things")
            answer[_key(field)] = self._complete(root(field.name.value, self._arguments(field)), field)
        return answer

    def _node(self, node: Mapping[str, object], selections: SelectionSetNode) -> dict[str, object]:
        answer: dict[str, object] = {}
        for field in self._fields(selections):
            key, value = _key(field), self._complete(node.get(field.name.value), field)
            before = answer.get(key)
            # The same field asked for twice (by two fragments) is one field with both selections.
            answer[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
        return answer

    def _complete(self, value: object, field: FieldNode) -> object:
        if callable(value):
            if time.monotonic() > self._deadline:
                raise Refusal(f"the request takes longer than {_PATIENCE_S:.0f} s: ask for less at a time")
            value = value(self._arguments(field))
        selections = field.selection_set
        if value is None:
            return None
        if selections is None:
            if isinstance(value, Mapping) and any(name == "__typename" or callable(value[name]) for name in value):
                raise Refusal(f"the field {field.name.value!r} has fields of its own: name those that are wanted")
            return value
        if isinstance(value, Mapping):
            return self._node(value, selections)
        if isinstance(value, list | tuple):
            return [None if item is None else self._node(item, selections) for item in value]
        raise Refusal(f"the field {field.name.value!r} has no fields of its own")

    def _fields(self, selections: SelectionSetNode) -> Iterator[FieldNode]:
        for selection in selections.selections:
            self._selections_left -= 1
            if self._selections_left < 0:
                raise Refusal("the request asks for too much at once")
            if not self._wanted(selection):
                continue
            match selection:
                case FieldNode():
                    yield selection
                case InlineFragmentNode():
                    yield from self._fields(selection.selection_set)
                case FragmentSpreadNode():
                    fragment = self._fragments.get(selection.name.value)
                    if fragment is None:
                        raise Refusal(f"the request has no fragment {selection.name.value!r}")
                    yield from self._fields(fragment)

    def _wanted(self, selection: SelectionNode) -> bool:
        """Whether the selection's `@include(if: …)` and `@skip(if: …)` let it through."""
        for directive in selection.directives or ():
            name = directive.name.value
            if name in ("include", "skip"):
                condition = self._values(directive.arguments or ()).get("if")
                if bool(condition) is not (name == "include"):
                    return False
        return True

    def _arguments(self, field: FieldNode) -> Arguments:
        return Arguments(self._values(field.arguments or ()))

    def _values(self, arguments: tuple[ArgumentNode, ...]) -> dict[str, object]:
        return {argument.name.value: value_from_ast_untyped(argument.value, self._variables) for argument in arguments}


def _key(field: FieldNode) -> str:
    """The name that the answer gives a field: the alias, if there is one."""
    return (field.alias or field.name).value
