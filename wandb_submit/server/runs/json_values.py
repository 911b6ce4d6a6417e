"""Values inside of stored JSON as SQL: by path, and a metric's, by the one definition of it.

Text that is returned holds no client's words; those are its parameters, in the order of its question marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from wandb_submit.metrics import CUT_SHORT, Metric, finite
from wandb_submit.server.storage.database import Transaction

# SQLite's paths into JSON compare a name with the text of the JSON, whose escapes they know only in newer versions.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_./ -]+")
# What is made of a value, by its `{type}` as SQLite calls it and the `{value}` itself, where truth values are 0 and 1.
AS_IT_IS = "{value}"
NUMBER = "CASE WHEN {type} IN ('integer', 'real') THEN {value} END"
# Truth values sort as texts do.
SORTABLE = "CASE {type} WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE {value} END"


def json_value(column: str, path: Sequence[str], kind: str = AS_IT_IS) -> tuple[str, tuple[str, ...]]:
    """One value inside of a JSON text, as SQL and its parameters."""
    if all(_PLAIN_NAME.fullmatch(part) for part in path):
        # These two read the text once between them, `json_each` reads it anew.
        sql = kind.format(type=f"json_type({column}, ?)", value=f"json_extract({column}, ?)")
        return sql, ("$" + "".join(f'."{part}"' for part in path),) * sql.count("?")
    source = column
    for _ in path[:-1]:
        source = f"(SELECT value FROM json_each({source}) WHERE key = ? AND type = 'object')"  # noqa: S608
    # The innermost query comes first in the text, and so does its name.
    return f"(SELECT {kind.format(type='type', value='value')} FROM json_each({source}) WHERE key = ?)", tuple(path)  # noqa: S608


def first_of(column: str, paths: Iterable[Sequence[str]], kind: str = AS_IT_IS) -> tuple[str, tuple[str, ...]]:
    """The first of several paths that holds something of that kind."""
    found = [json_value(column, path, kind) for path in paths]
    parameters = tuple(parameter for _, some in found for parameter in some)
    return f"COALESCE({', '.join(sql for sql, _ in found)}, NULL)", parameters


def summary_number(metric: Metric) -> tuple[str, tuple[str, ...]]:
    """A metric's value in a run's summary, as `Metric.value` finds it."""
    return first_of("runs.summary", metric.places(), NUMBER)


def summary_value(name: str, *, sorting: bool = False, maximize: bool = False) -> tuple[str, tuple[str, ...]]:
    """A value in a run's summary by its name: a metric's, or whatever else is there.

    Args:
        name: a dot may part levels, or belong to the name.
        sorting: only numbers are numbers; truth values are texts.
        maximize: the most of a metric's statistics counts, not the least.
    """
    number, numbers = summary_number(Metric(name=name, maximize=maximize))
    other, others = first_of("runs.summary", ((name,), name.split(".")), SORTABLE if sorting else AS_IT_IS)
    return f"IFNULL({number}, {other})", (*numbers, *others)


def logged_number(column: str, metric: Metric) -> tuple[str, tuple[str, ...]]:
    """A metric's value in a row of the history."""
    return first_of(column, metric.logged_places(), NUMBER)


def best_value(tx: Transaction, sweep: int, metric: Metric) -> float | None:
    """The best value that a run of the sweep has, but for those that failed or were stopped."""
    value, parameters = summary_number(metric)
    extreme = "MAX" if metric.maximize else "MIN"
    counted = f"sweep = ? AND state NOT IN {CUT_SHORT}"
    row = tx.one(f"SELECT {extreme}({value}) FROM runs WHERE {counted}", (*parameters, sweep))  # noqa: S608
    return None if row is None else finite(row[0])
