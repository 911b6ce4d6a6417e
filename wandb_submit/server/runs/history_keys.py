"""Which metrics runs have logged, how often, and their last values.

Clients ask for it whenever they look at a run, and all of its history has to be read for that. So what was found is
kept in memory, and only the rows that came since are read.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wandb_submit.server.runs.history import length
from wandb_submit.server.transaction import Transaction

# One level of a path as SQLite writes it: `."a b"` or `.a`.
_PATH_PART = re.compile(r"""\."([^"]*)"|\.([^."\[]+)""")
# SQLite's names for the types of JSON values, and W&B's.
_TYPES = {"integer": "number", "real": "number", "text": "string", "true": "boolean", "false": "boolean"}
# What SQLite gives for the values of some, and what they are.
_VALUES: Mapping[str, Callable[[Any], object]] = {"true": bool, "false": bool, "array": json.loads}
# So many rows at a time: SQLite sorts what it groups, which takes longer than in proportion.
_CHUNK = 2000
_MAX_RUNS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What the rows before number `end` hold: for each metric the types of its values, and the last one."""

    end: int = 0
    counts: Mapping[str, Counter[str]] = field(default_factory=dict)
    previous: Mapping[str, object] = field(default_factory=dict)


class HistoryKeys:
    """The metrics of the runs that were last asked for. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[int, _Found] = OrderedDict()
        self._changes = 0
        self._lock = threading.Lock()

    def of(self, tx: Transaction, run: int) -> dict[str, object]:
        """A run's metrics as W&B's API shows them; nested ones have their levels parted by dots."""
        changes = self._changes
        known = self._found.get(run, _Found())
        found = _found(tx, run, known)
        with self._lock:
            if self._changes == changes:
                self._found[run] = found
                self._found.move_to_end(run)
                if len(self._found) > _MAX_RUNS:
                    self._found.popitem(last=False)
        last = tx.one("SELECT MAX(step) FROM history WHERE run = ? AND stream = 'history'", (run,))
        return {
            "sets": [],
            "keys": {
                name: {
                    "typeCounts": [{"type": kind, "count": times} for kind, times in found.counts[name].items()],
                    "monotonic": name == "_step",
                    "previousValue": found.previous[name],
                }
                for name in sorted(found.counts)
            },
            "lastStep": -1 if last is None or last[0] is None else last[0],
        }

    def changed(self, tx: Transaction, run: int) -> None:
        """Says that a transaction takes back rows of a run: what was read of them, or is being read, is forgotten."""
        self._forget(run)
        # Whoever reads while it is committed may still see the old ones.
        tx.after_commit.append(lambda: self._forget(run))

    def _forget(self, run: int) -> None:
        with self._lock:
            self._changes += 1
            self._found.pop(run, None)


def _found(tx: Transaction, run: int, known: _Found) -> _Found:
    """What is known, and what the rows say that came since."""
    end = length(tx, run, "history")
    if end <= known.end:
        return known
    counts = {name: counter.copy() for name, counter in known.counts.items()}
    previous = dict(known.previous)
    for first in range(known.end, end, _CHUNK):
        rows = tx.rows(
            # A column that is not aggregated comes from the row with the maximum: https://sqlite.org/lang_select.html
            "SELECT entry.fullkey AS path, entry.type AS type, COUNT(*) AS times, MAX(number) AS latest, entry.value AS"
            " value FROM history, json_tree(history.content) AS entry WHERE run = ? AND stream = 'history'"
            " AND number >= ? AND number < ? AND typeof(entry.key) = 'text' AND entry.type <> 'object'"
            " GROUP BY 1, 2 ORDER BY latest",
            (run, first, first + _CHUNK),
        )
        for row in rows:
            parts = [quoted or plain for quoted, plain in _PATH_PART.findall(row["path"])]
            if _PATH_PART.sub("", row["path"]) == "$":  # else it is inside a list
                name, kind = ".".join(parts), row["type"]
                counts.setdefault(name, Counter())[_TYPES.get(kind, kind)] += row["times"]
                previous[name] = _VALUES[kind](row["value"]) if kind in _VALUES else row["value"]
    return _Found(end=end, counts=counts, previous=previous)
