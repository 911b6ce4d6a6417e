"""The GraphQL operations that an installed wandb package holds: in its Python files, and in its compiled core."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graphql.error import GraphQLSyntaxError
from graphql.language import FieldNode, OperationDefinitionNode, parse

# Where an operation or a fragment begins.
_HEAD = re.compile(r"\b(query|mutation)\s+\w+\s*[({]|\bfragment\s+\w+\s+on\s")
_COMPILED_HEAD = re.compile(rb"(?:query|mutation) \w+ [({]")
_COMPILED_FRAGMENT = b"\nfragment "


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation: its text with the fragments that it uses, and what its text says of it."""

    name: str
    kind: str
    text: str
    roots: tuple[str, ...]
    variables: tuple[str, ...]
    node: OperationDefinitionNode


def operations(package: Path) -> list[Operation]:
    """All operations in a wandb package whose text can be told without running it."""
    found = []
    for text in [*_written(package), *_compiled(package / "bin" / "wandb-core")]:
        try:
            definitions = parse(text).definitions
        except GraphQLSyntaxError:  # it is completed while the program runs
            continue
        for one in definitions:
            if isinstance(one, OperationDefinitionNode) and one.name is not None:
                fields = [field for field in one.selection_set.selections if isinstance(field, FieldNode)]
                found.append(
                    Operation(
                        name=one.name.value,
                        kind=one.operation.value,
                        text=text,
                        roots=tuple(field.name.value for field in fields),
                        variables=tuple(each.variable.name.value for each in one.variable_definitions or ()),
                        node=one,
                    )
                )
    return found


def _written(package: Path) -> Iterator[str]:
    """The texts in the Python files; constants that texts are put together from are looked up by their names."""
    trees = [ast.parse(path.read_text()) for path in package.rglob("*.py") if "vendor" not in path.parts]
    named: dict[str, ast.expr] = {}
    for tree in trees:
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                named[node.targets[0].id] = node.value

    def text(node: ast.AST, depth: int = 0) -> str:
        match node:
            case ast.Constant(value=str(value)):
                return value
            case ast.JoinedStr(values=values):
                return "".join(text(value, depth) for value in values)
            case ast.FormattedValue(value=value):
                return text(value, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return text(left, depth) + text(right, depth)
            case ast.Call(args=[first, *_]):
                return text(first, depth)
            case ast.Name(id=name) if name in named and depth < 5:
                return text(named[name], depth + 1)
        return ""

    for tree in trees:
        whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.BinOp)]
        parts = {id(part) for node in whole for part in ast.walk(node) if part is not node}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and id(node) not in parts:
                found = text(node)
                if _HEAD.search(found):
                    yield found


def _compiled(core: Path) -> Iterator[str]:
    """The texts in the core: they lie there as they are sent, each with its fragments behind it."""
    content = core.read_bytes()

    def end(start: int) -> int:
        """Where the braces are closed that are opened first."""
        depth = 0
        for place in re.finditer(rb"[{}]", content[start : start + 100_000]):
            depth += 1 if place[0] == b"{" else -1
            if depth == 0:
                return start + place.end()
        return start

    for head in _COMPILED_HEAD.finditer(content):
        stop = end(head.start())
        while content.startswith(_COMPILED_FRAGMENT, stop):
            stop = end(stop)
        yield content[head.start() : stop].decode(errors="replace")
