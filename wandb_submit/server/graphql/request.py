"""From a request's text and variables to an operation that can be walked: graphql-core reads the text."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from graphql.error import GraphQLSyntaxError
from graphql.language import (
    FragmentDefinitionNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
)

from wandb_submit.server.storage.refusals import Refusal

# The longest request of W&B's clients is a tenth of this. Reading this much holds up the event loop for a moment.
_MAX_LETTERS = 64 * 1024
_KINDS = (OperationType.QUERY, OperationType.MUTATION)


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A request's text: its operations and the fragments that they share."""

    operations: tuple[OperationDefinitionNode, ...]
    fragments: Mapping[str, SelectionSetNode]


def read(text: str) -> Document:
    """Reads a request's text.

    Raises:
        Refusal: if it is not one of GraphQL's executable documents; the message says where.
    """
    if len(text) > _MAX_LETTERS:
        raise Refusal(f"a request has at most {_MAX_LETTERS} letters, its variables aside")
    return _read(text)


@functools.lru_cache(maxsize=256)
def _read(text: str) -> Document:
    """Clients send the same few dozen texts over and over, so the last ones are remembered."""
    try:
        definitions = parse(text, no_location=True).definitions
    except GraphQLSyntaxError as error:
        raise Refusal(str(error)) from error
    return Document(
        operations=tuple(one for one in definitions if isinstance(one, OperationDefinitionNode)),
        fragments={one.name.value: one.selection_set for one in definitions if isinstance(one, FragmentDefinitionNode)},
    )


def choose(document: Document, name: str | None) -> OperationDefinitionNode:
    """The operation that a request means: the named one, or the only one."""
    named = [one for one in document.operations if name is None or (one.name is not None and one.name.value == name)]
    if len(named) != 1:
        raise Refusal(f"the request holds {len(named)} operations named {name!r}" if name else _which(document))
    if named[0].operation not in _KINDS:
        raise Refusal(f"a query or a mutation is expected, not a {named[0].operation.value}")
    return named[0]


def _which(document: Document) -> str:
    return "operationName is required" if document.operations else "the request holds no operation"
