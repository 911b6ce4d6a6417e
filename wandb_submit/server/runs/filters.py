"""Which runs or sweeps a client asks for: W&B's filters, a dialect of MongoDB's, as SQL.

As with MongoDB, a comparison holds only between values of one kind (no text is greater than a number), and what
lacks a value is not equal to any: `$ne`, `$nin` and `$not` let it through. A filter that this server does not know
is refused by name: silently wrong runs would be worse.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping

from wandb_submit.server.runs.columns import Column, Kind
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.regexp import checked_pattern

# Below what SQLite takes (of values, and of conditions that are nested or joined), so that it is us who refuse.
_MAX_PARAMETERS = 10_000
_MAX_FILTERS = 400
_ORDERED = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
# Times above this are milliseconds, as JavaScript has them.
_MILLISECONDS = 1e11


class Where:
    """A condition: SQL with its parameters. It is 0 or 1, never null, and no text of a client's is part of it."""

    def __init__(self, filters: object, column_of: Callable[[str], Column]) -> None:
        """Translates a filter, which is JSON's `{"key": value, "$and": […]}`.

        Args:
            filters: the filter.
            column_of: what a key names.

        Raises:
            Refusal: if it says something that is not known here.
        """
        self.parameters: list[object] = []
        self._column_of = column_of
        self._parts = 0
        self.sql = self._all(filters)
        if len(self.parameters) > _MAX_PARAMETERS:
            raise Refusal(f"a filter can compare with {_MAX_PARAMETERS} values, not {len(self.parameters)}")

    def _all(self, filters: object) -> str:
        self._parts += 1
        if self._parts > _MAX_FILTERS:
            raise Refusal(f"a filter can have {_MAX_FILTERS} parts")
        if not isinstance(filters, Mapping):
            raise Refusal(f"a filter must be an object, not {filters!r:.60}")
        return " AND ".join(f"({self._entry(str(key), value)})" for key, value in filters.items()) or "1"

    def _entry(self, key: str, value: object) -> str:
        if key in ("$and", "$or", "$nor"):
            if not isinstance(value, list):
                raise Refusal(f"{key} needs a list of filters")
            # None of no filters is true, all of them are.
            joined = (" AND " if key == "$and" else " OR ").join(f"({self._all(entry)})" for entry in value)
            joined = joined or ("1" if key == "$and" else "0")
            return f"NOT ({joined})" if key == "$nor" else joined
        if key == "$not":
            return f"NOT ({self._all(value)})"
        return self._condition(self._column_of(key), value)

    def _condition(self, column: Column, value: object) -> str:
        """What is said about one column: a value, or operators that all must hold."""
        if not isinstance(value, Mapping) or (value and not any(str(name).startswith("$") for name in value)):
            return self._equal(column, value)
        parts = []
        for name, operand in value.items():
            self._parts += 1
            if self._parts > _MAX_FILTERS:
                raise Refusal(f"a filter can have {_MAX_FILTERS} parts")
            if name == "$options" and "$regex" in value:
                continue
            parts.append(f"({self._comparison(column, str(name), operand, value.get('$options', ''))})")
        return " AND ".join(parts) or "1"

    def _comparison(self, column: Column, operator: str, operand: object, options: object) -> str:
        if operator in _ORDERED:
            return self._ordered(column, _ORDERED[operator], operand)
        match operator:
            case "$eq":
                return self._equal(column, operand)
            case "$ne":
                return f"NOT ({self._equal(column, operand)})"
            case "$in" | "$nin":
                if not isinstance(operand, list):
                    raise Refusal(f"{operator} needs a list of values")
                found = self._among(column, operand)
                return found if operator == "$in" else f"NOT ({found})"
            case "$all" if column.kind is Kind.TAGS and isinstance(operand, list):
                return " AND ".join(f"({self._equal(column, tag)})" for tag in operand) or "0"
            case "$exists":
                sql = f"{self._sql(column)} <> '[]'" if column.kind is Kind.TAGS else f"{self._sql(column)} IS NOT NULL"
                return sql if operand else f"NOT ({sql})"
            case "$regex":
                pattern = checked_pattern(operand, options)
                return self._of_value(column, lambda sql: f"{sql} REGEXP {self._value(pattern)}")
            case "$not":
                return f"NOT ({self._condition(column, operand)})"
            case _:
                raise Refusal(f"the offline sweep server does not know the filter {operator[:100]!r}")

    def _equal(self, column: Column, operand: object) -> str:
        if column.kind is Kind.TAGS and (operand is None or isinstance(operand, list)):
            return f"runs.tags = {self._value(json.dumps(operand or []))}"
        if isinstance(operand, list | Mapping):
            # A list or an object is equal to one that is written the same.
            return f"{self._sql(column.whole or column)} IS json({self._value(json.dumps(operand))})"
        return self._among(column, [operand])

    def _among(self, column: Column, operands: list[object]) -> str:
        values = [_operand(column, operand) for operand in operands]
        known = [value for value in values if value is not None]

        def among(sql: str) -> str:
            return f"IFNULL({sql} IN ({', '.join(self._value(value) for value in known)}), 0)"

        if column.kind is Kind.SWEEP:
            # The other way round there is an index.
            found = f"IFNULL(runs.sweep IN (SELECT number FROM sweeps WHERE {among('sweeps.id')}), 0)"  # noqa: S608
        else:
            found = self._of_value(column, among)
        if None not in values:
            return found
        missing = "runs.tags = '[]'" if column.kind is Kind.TAGS else f"{self._sql(column)} IS NULL"
        return f"{found} OR {missing}"

    def _ordered(self, column: Column, operator: str, operand: object) -> str:
        value = _operand(column, operand)
        if value is None or column.kind is Kind.TAGS:
            raise Refusal(f"a filter cannot compare {'tags' if value is not None else 'with null'} by {operator}")
        kinds = "'text'" if isinstance(value, str) else "'integer', 'real'"
        sql = self._sql(column)
        same_kind = f"typeof({sql}) IN ({kinds})"
        return f"{same_kind} AND {self._sql(column)} {operator} {self._value(value)}"

    def _of_value(self, column: Column, condition: Callable[[str], str]) -> str:
        """A condition on a column's value; on any of them, if it has several."""
        if column.kind is Kind.TAGS:
            return f"EXISTS (SELECT 1 FROM json_each(runs.tags) AS tag WHERE {condition('tag.value')})"  # noqa: S608
        return condition(self._sql(column))

    def _sql(self, column: Column) -> str:
        """A column's text; its parameters are taken down, so it must be used once, and in the text's order."""
        self.parameters.extend(column.parameters)
        return f"CAST({column.sql} AS INTEGER)" if column.kind is Kind.TIME else column.sql

    def _value(self, value: object) -> str:
        self.parameters.append(value)
        return "?"


def _operand(column: Column, value: object) -> int | float | str | None:
    """A value to compare with, as the tables hold it."""
    if value is None:
        return None
    if column.kind is Kind.TIME:
        return _moment(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float | str):
        return value
    raise Refusal(f"a filter compares with a number or a text, not with {json.dumps(value)[:60]}")


def _moment(value: object) -> float:
    """A time from the text that clients write, or from seconds or milliseconds since 1970.

    Times are shown, and so compared, in whole seconds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value / 1000 if value > _MILLISECONDS else value
    try:
        # Python 3.10 does not read the Z.
        moment = dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError as error:
        raise Refusal(f"{value!r:.60} is not a time such as 2026-01-31T12:00:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()
