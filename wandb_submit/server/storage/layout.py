"""Whether a database has the tables that its version says."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from wandb_submit.server.storage.tables import STEPS

_SHOWN = 3


def differences(connection: sqlite3.Connection, version: int) -> str:
    """What of the tables is not as that version has it, in words; nothing if all is.

    A table or an index that is only in the database harms nobody, unless the version has no tables at all.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        for step in STEPS[:version]:
            fresh.executescript(step)
        expected, found = dict(_layout(fresh)), dict(_layout(connection))
    missing = [name for name in expected if name not in found]
    other = [name for name in expected if name in found and found[name] != expected[name]]
    foreign = [name for name in found if name.split(".")[0] in expected and name not in expected]
    if version == 0:
        foreign = list(found)
    groups = (("it lacks", missing), ("it has other", other), ("it has beside them", foreign))
    return "; ".join(f"{words} {_listed(names)}" for words, names in groups if names)


def _layout(connection: sqlite3.Connection) -> Iterator[tuple[str, object]]:
    """The name of each table, column and index, and what it is like."""
    kinds = connection.execute(
        "SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'"
    )
    for kind, name, table in kinds.fetchall():
        if kind == "table":
            yield name, kind
            for _, column, *rest in connection.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)):
                yield f"{name}.{column}", tuple(rest)
        elif kind == "index":
            columns = connection.execute("SELECT name FROM pragma_index_info(?)", (name,))
            yield f"the index {name}", (table, *(column for (column,) in columns))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
