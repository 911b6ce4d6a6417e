"""Lists in pages, as GraphQL clients expect them (https://relay.dev/graphql/connections.htm)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.storage.refusals import Refusal

# W&B's own limit for one page.
_MAX_PAGE = 1000
# More rows than these fit into no database.
_MAX_DIGITS = 18


def page_size(arguments: Arguments, default: int = 50) -> int:
    """How many entries a page has, as `first` says."""
    return max(0, min(arguments.integer("first", default), _MAX_PAGE))


def number_after(arguments: Arguments) -> int | None:
    """What `after` says in a list whose cursors are whole numbers; None for the first page."""
    cursor = arguments.text("after")
    if not cursor:
        return None
    if not cursor.isdecimal() or len(cursor) > _MAX_DIGITS:
        raise Refusal(f"{cursor[:40]!r} is not a cursor of this server")
    return int(cursor)


def edges(
    kind: str,
    nodes: Sequence[Mapping[str, object]],
    cursors: Sequence[str],
    *,
    more: bool,
    beside: Sequence[Mapping[str, object]] | None = None,
) -> dict[str, object]:
    """A page's answer, from its entries, a cursor for each, and whether there are more after them.

    `beside` has fields that stand beside each entry, not in it.
    """
    fields = beside or [{}] * len(nodes)
    return {
        "__typename": f"{kind}Connection",
        "edges": [
            {**more_fields, "__typename": f"{kind}Edge", "node": node, "cursor": cursor}
            for node, cursor, more_fields in zip(nodes, cursors, fields, strict=True)
        ],
        "pageInfo": {
            "__typename": "PageInfo",
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
            "hasNextPage": more,
        },
    }


def connection(
    kind: str, nodes: Sequence[Mapping[str, object]], arguments: Arguments, *, whole: bool = False
) -> dict[str, object]:
    """The asked-for page of a short list that is at hand as a whole and only grows at its end.

    Args:
        kind: the type of the nodes.
        nodes: the whole list.
        arguments: what was asked for.
        whole: whether a client that names no size gets all, because it would not ask for a second page.
    """
    start = number_after(arguments) or 0
    size = len(nodes) if whole and arguments.integer("first", 0) == 0 else page_size(arguments)
    shown = nodes[start : start + size]
    cursors = [str(start + number) for number in range(1, len(shown) + 1)]
    return {
        **edges(kind, shown, cursors, more=len(nodes) > start + size),
        "totalCount": len(nodes),
    }
