"""In which order runs are listed, and where the next page of such a list begins.

A page begins after the last run of the page before it, not after so many runs: runs that come or go meanwhile
make a reader neither skip nor see twice any other.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from wandb_submit.server.runs.columns import Kind, run_column
from wandb_submit.server.storage.refusals import Refusal

_MAX_KEYS = 10
_DEFAULT = "+created_at"
# A comma parts two orders only where the next one begins: names of metrics can hold one.
_NEXT = re.compile(r",\s*(?=[+-])")
_MAX_CURSOR = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SortKey:
    """One value that runs are ordered by."""

    sql: str
    parameters: tuple[str, ...] = ()
    descending: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """How runs are ordered: by these values, the last of which is the run's own number."""

    keys: tuple[SortKey, ...]

    @property
    def sql(self) -> str:
        """What follows `ORDER BY` where each key was selected as `key0`, `key1` and so on."""
        return ", ".join(f"key{number}{' DESC' if key.descending else ''}" for number, key in enumerate(self.keys))

    @property
    def selection(self) -> str:
        """The keys as columns of a query."""
        return ", ".join(f"{key.sql} AS key{number}" for number, key in enumerate(self.keys))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Those of `selection`."""
        return tuple(parameter for key in self.keys for parameter in key.parameters)

    @property
    def is_by_age(self) -> bool:
        """Whether an index has a project's runs in this order."""
        return [key.sql for key in self.keys] == ["runs.created_at", "runs.id"] and len(
            {key.descending for key in self.keys}
        ) == 1

    def ranges(self, cursor: str | None) -> list[tuple[str, list[object]]]:
        """Conditions that part what comes after a cursor: all of one range come before those of the next.

        An index in this order has each range in one piece, which no condition for all of them at once would tell
        SQLite.

        Raises:
            Refusal: if the cursor is none of a list in this order.
        """
        if cursor is None:
            return [("1", [])]
        values = self._read(cursor)
        ranges = []
        for number, key in reversed(list(enumerate(self.keys))):
            same = [f"key{earlier} IS ?" for earlier in range(number)]
            beyond = f"key{number} {'<' if key.descending else '>'} ?"
            ranges.append((" AND ".join([*same, beyond]), values[: number + 1]))
        return ranges

    def cursor(self, values: Sequence[object]) -> str:
        """What says that a page ended with the run that has these keys. Opaque to clients."""
        return base64.urlsafe_b64encode(json.dumps(list(values)).encode()).decode()

    def _read(self, cursor: str) -> list[object]:
        try:
            values = json.loads(base64.urlsafe_b64decode(cursor[:_MAX_CURSOR].encode()))
        except ValueError:
            values = None
        if (
            not isinstance(values, list)
            or len(values) != len(self.keys)
            or not all(value is None or isinstance(value, int | float | str) for value in values)
        ):
            raise Refusal(f"{cursor[:40]!r} is not a cursor of this list")
        return values


def parse_order(text: str | None) -> Order:
    """An order such as `-summary_metrics.loss` or `+config.lr,-created_at`; runs that lack the value come last.

    Raises:
        Refusal: if it is not known here.
    """
    parts = _NEXT.split((text or _DEFAULT).strip())
    if len(parts) > _MAX_KEYS:
        raise Refusal(f"runs are ordered by at most {_MAX_KEYS} values")
    keys: list[SortKey] = []
    descending = False
    for part in parts:
        descending = part.startswith("-")
        column = run_column(part.lstrip("+-"), sorting=True, descending=descending)
        if column.kind is Kind.TAGS:
            raise Refusal("the offline sweep server cannot order runs by their tags")
        if column.nullable:
            # Text sorts after numbers in SQLite; a metric that is one ("NaN") is as good as none.
            rank = f"CASE typeof({column.sql}) WHEN 'null' THEN 2 WHEN 'text' THEN 1 ELSE 0 END"
            keys.append(SortKey(sql=rank, parameters=column.parameters))
        keys.append(SortKey(sql=column.sql, parameters=column.parameters, descending=descending))
    # Of two runs that are equal the older one comes first, unless all goes from young to old.
    backwards = all(key.descending for key in keys)
    return Order(keys=(*keys, SortKey(sql="runs.id", descending=backwards)))
