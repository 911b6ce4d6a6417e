"""Which runs a client asks for: W&B's filters (a MongoDB dialect) and orders as SQL.

A filter that this server does not know is refused by name: silently wrong runs would be worse.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping

from wandb_submit.server.refusals import Refusal

_COLUMNS = {
    "sweep": "sweeps.id",
    "name": "runs.name",
    "state": "runs.state",
    "display_name": "runs.display_name",
    "displayName": "runs.display_name",
    "group": "runs.run_group",
    "job_type": "runs.job_type",
    "jobType": "runs.job_type",
    "created_at": "runs.created_at",
    "createdAt": "runs.created_at",
    "heartbeat_at": "runs.heartbeat_at",
    "heartbeatAt": "runs.heartbeat_at",
    "updated_at": "runs.heartbeat_at",
    "updatedAt": "runs.heartbeat_at",
}
# Below what SQLite takes (of values, and of conditions that are nested or joined), so that it is us who refuse.
_MAX_PARAMETERS = 10_000
_MAX_FILTERS = 400
_OPERATORS = {"$eq": "IS", "$ne": "IS NOT", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


class Where:
    """A condition on runs: SQL with its parameters."""

    def __init__(self, filters: object) -> None:
        """Translates a filter, which is JSON's `{"key": value, "$and": […]}`.

        Raises:
            Refusal: if it says something that is not known here.
        """
        self.parameters: list[object] = []
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
        return " AND ".join(self._entry(str(key), value) for key, value in filters.items()) or "1"

    def _entry(self, key: str, value: object) -> str:
        if key in ("$and", "$or"):
            if not isinstance(value, list):
                raise Refusal(f"{key} needs a list of filters")
            word = f" {key[1:].upper()} "
            return "(" + (word.join(f"({self._all(entry)})" for entry in value) or "1") + ")"
        if key == "$not":
            return f"NOT ({self._all(value)})"
        column, keys = expression(key)
        if not isinstance(value, Mapping):
            value = {"$eq": value}
        return (
            " AND ".join(self._comparison(column, keys, str(name), operand) for name, operand in value.items()) or "1"
        )

    def _comparison(self, column: str, keys: list[str], operator: str, operand: object) -> str:
        self.parameters.extend(keys)
        if operator in _OPERATORS:
            self.parameters.append(_moment(operand) if column.endswith("_at") else _scalar(operand))
            return f"{column} {_OPERATORS[operator]} ?"
        if operator in ("$in", "$nin") and isinstance(operand, list):
            self.parameters.extend(_scalar(item) for item in operand)
            word = "IN" if operator == "$in" else "NOT IN"
            return f"{column} {word} ({', '.join('?' * len(operand))})"
        if operator == "$exists":
            return f"{column} IS {'NOT ' if operand else ''}NULL"
        raise Refusal(f"the offline sweep server does not know the filter {operator!r}")


def order_by(order: str | None) -> tuple[str, list[str]]:
    """An order such as `-summary_metrics.loss` as SQL and its parameters; runs that lack the value come last.

    Raises:
        Refusal: if it is not known here.
    """
    text = order or "+created_at"
    direction = "DESC" if text.startswith("-") else "ASC"
    column, keys = expression(text.lstrip("+-"))
    if keys:
        # Text sorts after numbers in SQLite; a metric that is one ("NaN") is as good as none.
        value = f"CASE WHEN typeof({column}) IN ('integer', 'real') THEN 0 WHEN {column} IS NULL THEN 2 ELSE 1 END"
        return f"{value}, {column} {direction}, runs.id", [*keys, *keys, *keys]
    return f"{column} IS NULL, {column} {direction}, runs.id {direction}", []


def expression(key: str) -> tuple[str, list[str]]:
    """What a key of a filter or an order names, as SQL and its parameters (paths into JSON)."""
    if key in _COLUMNS:
        return _COLUMNS[key], []
    if "\x00" in key:
        raise Refusal("the name of a metric or parameter cannot hold a zero byte")
    section, _, rest = key.partition(".")
    if section == "summary_metrics" and rest:
        # A dot may part a nested metric, or belong to the name.
        return "COALESCE(json_extract(runs.summary, ?), json_extract(runs.summary, ?))", [
            _path([rest]),
            _path(rest.split(".")),
        ]
    if section == "config" and rest:
        plain = rest.removesuffix(".value")
        first, *others = plain.split(".")
        return (
            "COALESCE(json_extract(runs.config, ?), json_extract(runs.config, ?))",
            [_path([plain, "value"]), _path([first, "value", *others])],
        )
    raise Refusal(f"the offline sweep server cannot filter or order runs by {key!r}")


def _path(parts: list[str]) -> str:
    """A path into JSON as SQLite writes it. It has no escape for a quote, and such a name simply matches nothing."""
    return "$" + "".join(f'."{part}"' for part in (part.replace('"', "") for part in parts))


def _moment(value: object) -> object:
    """A time as the tables hold it, from the text that clients write."""
    try:
        # Python 3.10 does not read the Z.
        moment = dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError as error:
        raise Refusal(f"{value!r:.60} is not a time such as 2026-01-31T12:00:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()


def _scalar(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, int | float | str):
        return value
    raise Refusal(f"a filter compares with a number or a text, not with {json.dumps(value)[:60]}")
