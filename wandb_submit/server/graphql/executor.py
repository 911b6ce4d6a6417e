"""Answers a request by walking its selections over plain mappings.

There is no schema: a field that a mapping lacks is null, which is noted; a root field that nothing answers is refused.
A mapping may hold functions; one is called with the field's arguments when, and only when, it is asked for. The
types that fragments name are not looked at: no field of ours means two things.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

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
from wandb_submit.server.graphql.not_offered import words
from wandb_submit.server.graphql.request import Document
from wandb_submit.server.storage.refusals import Refusal

# How much work one request may be: the selections that are looked at, however they came to be so many. The largest
# request of W&B's clients, a page of 1,000 runs with all of their fields, comes to a thirtieth of it.
_MAX_SELECTIONS = 1_000_000
# W&B's clients ask for one to three.
_MAX_ROOT_FIELDS = 50
# A request that takes longer is not waited for, and its thread is needed.
_PATIENCE_S = 60.0

# Lists of W&B's client (wandb 0.31, apis/public/artifacts.py) that cannot be of something that is not there, by their
# operations, and what they are of.
_NEEDY = frozenset(
    ("ProjectArtifactTypes", "ProjectArtifactCollections", "ArtifactTypeArtifactCollections", "ProjectArtifacts")
)
_PLACES = {"project": "project", "artifactType": "artifact type", "artifactCollection": "artifact collection"}


# The value of a field that W&B has and this server does not: whoever asks for it is told so, instead of null.
ABSENT = object()


class UnknownFieldError(Refusal):
    """A field that this server does not have; W&B's clients can go on without most of them."""

    def __init__(self, name: str, operation: str) -> None:
        super().__init__(words(name, operation), status=200)
        self.field = name


class Execution:
    """One operation with its variables, ready to be walked.

    Attributes:
        lacking: the fields that were asked for and are none of ours, as `Type.field`; they were answered with null.
    """

    def __init__(self, document: Document, operation: OperationDefinitionNode, variables: Mapping[str, object]) -> None:
        self._fragments = document.fragments
        self._operation = operation
        self._variables: dict[str, object] = {
            declared.variable.name.value: None
            if declared.default_value is None
            else value_from_ast_untyped(declared.default_value)
            for declared in operation.variable_definitions or ()
        }
        self._variables.update(variables)
        self.lacking: set[str] = set()
        self._selections_left = _MAX_SELECTIONS
        self._deadline = float("inf")

    @property
    def name(self) -> str:
        """What the operation is called, in words."""
        name = self._operation.name
        return f"the {self._operation.operation.value} {'with no name' if name is None else name.value}"

    def roots(self) -> list[tuple[str, Arguments]]:
        """The names and arguments of the operation's root fields, in the order in which they are resolved."""
        return [(fields[0].name.value, self._arguments(fields[0])) for fields in self._roots().values()]

    def run(self, root: Callable[[str, Arguments], object]) -> dict[str, object]:
        """Resolves the operation's root fields, in order, with `root(name, arguments)`; it may be begun again.

        Raises:
            Refusal: if one of them refuses, or all of it is too much work.
        """
        self._selections_left = _MAX_SELECTIONS
        self._deadline = time.monotonic() + _PATIENCE_S
        return {
            key: self._complete(root(fields[0].name.value, self._arguments(fields[0])), fields)
            for key, fields in self._roots().items()
        }

    def _roots(self) -> dict[str, list[FieldNode]]:
        wanted = self._collected([self._operation.selection_set])
        if len(wanted) > _MAX_ROOT_FIELDS:
            raise Refusal(f"a request asks for at most {_MAX_ROOT_FIELDS} things")
        return wanted

    def _complete(self, value: object, fields: Sequence[FieldNode]) -> object:
        """The answer for one field, which the request may name several times with different fields below."""
        name = fields[0].name.value
        if callable(value):
            if time.monotonic() > self._deadline:
                raise Refusal(f"the request takes longer than {_PATIENCE_S:.0f} s: ask for less at a time")
            value = value(self._arguments(fields[0]))
        if value is None:
            self._check_dispensable(fields[0])
            return None
        if value is ABSENT:
            raise UnknownFieldError(name, self.name)
        selections = [field.selection_set for field in fields if field.selection_set is not None]
        if not selections:
            if isinstance(value, Mapping) and any(key == "__typename" or callable(value[key]) for key in value):
                raise Refusal(f"the field {name!r} has fields of its own: name those that are wanted")
            return value
        if isinstance(value, Mapping):
            return self._node(name, value, selections)
        if isinstance(value, list | tuple):
            return [None if item is None else self._node(name, item, selections) for item in value]
        raise Refusal(f"the field {name!r} has no fields of its own")

    def _check_dispensable(self, field: FieldNode) -> None:
        """Says what is not there, where null is no answer that the client understands."""
        operation, name = self._operation.name, field.name.value
        if name in _PLACES and operation is not None and operation.value in _NEEDY:
            wanted = self._values(field.arguments or ()).get("name")
            raise Refusal(f"there is no {_PLACES[name]} {wanted!r:.60} here", status=200)

    def _node(self, name: str, node: Mapping[str, object], selections: Sequence[SelectionSetNode]) -> dict[str, object]:
        if not isinstance(node, Mapping):
            raise Refusal("a list of values has no fields of its own")
        answer = {}
        for key, fields in self._collected(selections).items():
            wanted = fields[0].name.value
            if wanted not in node:
                self.lacking.add(f"{node.get('__typename', name)}.{wanted}")
            answer[key] = self._complete(node.get(wanted), fields)
        return answer

    def _collected(self, selections: Sequence[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        """The fields that are asked for, by the names that the answer gives them."""
        fields: dict[str, list[FieldNode]] = {}
        seen: set[str] = set()
        for selection in selections:
            for field in self._fields(selection, seen, ()):
                fields.setdefault((field.alias or field.name).value, []).append(field)
        return fields

    def _fields(self, selections: SelectionSetNode, seen: set[str], inside: tuple[str, ...]) -> Iterator[FieldNode]:
        """The fields of a selection and its fragments; one that is named twice adds nothing new.

        Args:
            selections: what is looked at.
            seen: the fragments that were looked at so far.
            inside: those that the selection is part of.
        """
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
                    yield from self._fields(selection.selection_set, seen, inside)
                case FragmentSpreadNode():
                    name = selection.name.value
                    fragment = self._fragments.get(name)
                    if fragment is None:
                        raise Refusal(f"the request has no fragment {name!r}")
                    if name in inside:
                        raise Refusal(f"the fragment {name!r} contains itself")
                    if name not in seen:
                        seen.add(name)
                        yield from self._fields(fragment, seen, (*inside, name))

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
