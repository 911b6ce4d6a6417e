"""Lists in pages, as GraphQL clients expect them (https://relay.dev/graphql/connections.htm)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.refusals import Refusal

# W&B's own limit for one page.
_MAX_PAGE = 1000
# More rows than these fit into no database.
_MAX_DIGITS = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Which part of a list is asked for; one row more than `size` tells whether there is another page."""

    offset: int
    size: int


def page(arguments: Arguments, default_size: int = 50) -> Page:
    """Reads `after` and `first`. A cursor is the number of rows before it: our lists only grow at their end."""
    cursor = arguments.text("after") or "0"
    if not cursor.isdecimal() or len(cursor) > _MAX_DIGITS:
        raise Refusal(f"{cursor[:40]!r} is not a cursor of this server")
    size = arguments.integer("first", default_size)
    return Page(offset=int(cursor), size=max(0, min(size, _MAX_PAGE)))


def edges(kind: str, nodes: Sequence[Mapping[str, object]], wanted: Page) -> dict[str, object]:
    """A page's answer, from its rows and, if there is one, the row after them."""
    shown = nodes[: wanted.size]
    return {
        "__typename": f"{kind}Connection",
        "edges": [
            {"__typename": f"{kind}Edge", "node": node, "cursor": str(wanted.offset + number)}
            for number, node in enumerate(shown, 1)
        ],
        "pageInfo": {
            "__typename": "PageInfo",
            "endCursor": str(wanted.offset + len(shown)) if shown else None,
            "hasNextPage": len(nodes) > wanted.size,
        },
    }


def connection(kind: str, nodes: Sequence[Mapping[str, object]], arguments: Arguments) -> dict[str, object]:
    """The asked-for page of a short list that is at hand as a whole."""
    wanted = page(arguments)
    return {
        **edges(kind, nodes[wanted.offset : wanted.offset + wanted.size + 1], wanted),
        "totalCount": len(nodes),
    }
