"""Which part of a long list a page shows, and where the other parts are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wandb_submit.server.web.links import with_query

_MAX_DIGITS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Paging:
    """One page of a list.

    Attributes:
        number: of this page, from 1.
        pages: how many there are, at least one.
        total: how many items.
        previous: where the page before is, if there is one.
        next: where the page after is, if there is one.
    """

    number: int
    pages: int
    size: int
    total: int
    previous: str | None
    next: str | None

    @classmethod
    def of(cls, asked: Mapping[str, str], total: int, size: int, parameter: str = "page") -> Paging:
        """The page that the reader asks for; one that is not there becomes the nearest that is."""
        pages = max(1, -(-total // size))
        text = asked.get(parameter, "1")
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 1
        number = min(max(number, 1), pages)

        def link(other: int) -> str | None:
            return with_query(**{**asked, parameter: other}) if 1 <= other <= pages else None

        return cls(number=number, pages=pages, size=size, total=total, previous=link(number - 1), next=link(number + 1))

    @property
    def offset(self) -> int:
        """How many items come before this page."""
        return (self.number - 1) * self.size

    @property
    def first(self) -> int:
        """The number of the first item on it, from 1."""
        return min(self.offset + 1, self.total)

    @property
    def last(self) -> int:
        """The number of the last item on it."""
        return min(self.offset + self.size, self.total)
