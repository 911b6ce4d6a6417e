"""A table that cuts no cell: what a narrow terminal has no room for goes to lines of its own below the row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.text import Text

_GAP = 2
_INDENT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a ledger.

    Attributes:
        name: its head; where a cell goes below its row, its label there.
        right: whether its cells are aligned to the right.
        stays: whether its cells always stay in their rows.
        derivable: whether one can do without it: it is left out first, as a whole, the last such column first.
        is_list: whether its cells may be broken behind their commas, where they are longer than a line.
    """

    name: str
    right: bool = False
    stays: bool = False
    derivable: bool = False
    is_list: bool = False


class Ledger:
    """Rows of text below the heads of their columns, for a terminal of any width.

    Where the rows are too wide, derivable columns are left out. If that does not suffice, the widest cells that may
    go below their rows do so, one after the other, until the rest fits.
    """

    def __init__(self, columns: Sequence[Column], instead: str = "") -> None:
        """Starts one without rows.

        Args:
            columns: its columns.
            instead: the last line, where a derivable column is left out.
        """
        self._columns = columns
        self._instead = instead
        self._rows: list[list[Text]] = []

    def add(self, *cells: str | Text) -> None:
        """Adds a row, with a cell for each column."""
        self._rows.append([Text(cell) if isinstance(cell, str) else cell for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rooms = self._rooms(options.max_width)
        heads = [Text(column.name, style="bold") for column in self._columns]
        yield self._line(heads, rooms)
        for row in self._rows:
            yield self._line(row, rooms)
            for column, cell, room in zip(self._columns, row, rooms, strict=True):
                if cell.cell_len > room and not column.derivable:
                    label = f"{column.name} " if column.name else ""
                    words = Text(cell.plain.replace(",", ", ")) if column.is_list else cell
                    yield Padding.indent(Text(label).append_text(words), _INDENT)
        if self._instead and any(
            column.derivable and not room for column, room in zip(self._columns, rooms, strict=True)
        ):
            yield Text(self._instead, style="dim")

    def _line(self, cells: Sequence[Text], rooms: Sequence[int]) -> Text:
        line = Text()
        for column, cell, room in zip(self._columns, cells, rooms, strict=True):
            if not room:
                continue
            if line:
                line.append(" " * _GAP)
            shown = cell if cell.cell_len <= room else Text()
            blanks = " " * (room - shown.cell_len)
            line.append_text(Text.assemble(blanks, shown) if column.right else Text.assemble(shown, blanks))
        line.rstrip()
        return line

    def _rooms(self, width: int) -> list[int]:
        """The width of each column; 0 for one that is not shown."""
        widths = [sorted({row[at].cell_len for row in self._rows}) for at in range(len(self._columns))]
        rooms = [max([len(column.name), *known]) for column, known in zip(self._columns, widths, strict=True)]

        def fits() -> bool:
            shown = [room for room in rooms if room]
            return sum(shown) + _GAP * (len(shown) - 1) <= width

        for at in reversed(range(len(rooms))):
            if self._columns[at].derivable and not fits():
                rooms[at] = 0
        while not fits():
            movable = [at for at in range(len(rooms)) if rooms[at] and not self._columns[at].stays]
            if not movable:
                break
            widest = max(movable, key=lambda at: rooms[at])
            rooms[widest] = _next_smaller(rooms[widest], widths[widest], len(self._columns[widest].name))
        return rooms


def _next_smaller(room: int, widths: Collection[int], head: int) -> int:
    """The room that the next narrower cells of a column need; 0 if it has no others but empty ones."""
    smaller = [width for width in widths if 0 < width < room]
    return max(*smaller, head) if smaller and max(*smaller, head) < room else 0
