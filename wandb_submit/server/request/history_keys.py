"""Which metrics runs have logged, how often, and their last values.

Clients ask for it whenever they look at a run, and all of its history has to be read for that. So what was found is
kept in memory, and only the rows that came since are read.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wandb_submit.server.runs.history import length
from wandb_submit.server.storage.transaction import Transaction

# One level of a path as SQLite writes it: `."a b"` or `.a`.
_PATH_PART = re.compile(r"""\."([^"]*)"|\.([^."\[]+)""")
# SQLite's names for the types of JSON values, and W&B's.
_TYPES = {"integer": "number", "real": "number", "text": "string", "true": "boolean", "false": "boolean"}
# What SQLite gives for the values of some, and what they are.
_VALUES: Mapping[str, Callable[[Any], object]] = {"true": bool, "false": bool, "array": json.loads}
# So many rows at a time: SQLite sorts what it groups, which takes longer than in proportion.
_CHUNK = 2000
# What is kept in memory: of so many runs, and so many names in all. The last run asked for is kept in any case.
_MAX_RUNS = 500
_MAX_NAMES = 100_000

# How often values of which type were logged.
_Counts: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What the rows before number `end` hold: for each metric the types of its values, and the last one."""

    end: int = 0
    counts: Mapping[str, _Counts] = field(default_factory=dict)
    previous: Mapping[str, object] = field(default_factory=dict)


class HistoryKeys:
    """The metrics of the runs that were last asked for. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[int, _Found] = OrderedDict()
        self._names = 0
        self._changes = 0
        self._lock = threading.Lock()

    def of(self, tx: Transaction, run: int) -> dict[str, object]:
        """A run's metrics as W&B's API shows them; nested ones have their levels parted by dots."""
        changes = self._changes
        known = self._found.get(run, _Found())
        found = _found(tx, run, known)
        with self._lock:
            if self._changes == changes:
                self._keep(run, found)
        last = tx.one("SELECT MAX(step) FROM history WHERE run = ? AND stream = 'history'", (run,))
        # Most of a run's metrics are alike in this, and there can be hundreds of thousands.
        shown: dict[_Counts, list[dict[str, object]]] = {
            counts: [{"type": kind, "count": times} for kind, times in counts] for counts in set(found.counts.values())
        }
        return {
            "sets": [],
            "keys": {
                name: {
                    "typeCounts": shown[found.counts[name]],
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

    def _keep(self, run: int, found: _Found) -> None:
        self._drop(run)
        self._found[run] = found
        self._names += len(found.counts)
        while len(self._found) > 1 and (len(self._found) > _MAX_RUNS or self._names > _MAX_NAMES):
            self._drop(next(iter(self._found)))

    def _drop(self, run: int) -> None:
        gone = self._found.pop(run, None)
        if gone is not None:
            self._names -= len(gone.counts)

    def _forget(self, run: int) -> None:
        with self._lock:
            self._changes += 1
            self._drop(run)


def _found(tx: Transaction, run: int, known: _Found) -> _Found:
    """What is known, and what the rows say that came since."""
    end = length(tx, run, "history")
    if end <= known.end:
        return known
    if end - known.end > _CHUNK:
        tx.take_long()
    counts, previous = dict(known.counts), dict(known.previous)
    # One object of each kind, however many metrics it counts for.
    same: dict[_Counts, _Counts] = {}
    for first in range(known.end, end, _CHUNK):
        rows = tx.each(
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
                merged = _more(counts.get(name, ()), _TYPES.get(kind, kind), row["times"])
                counts[name] = same.setdefault(merged, merged)
                previous[name] = _VALUES[kind](row["value"]) if kind in _VALUES else row["value"]
    return _Found(end=end, counts=counts, previous=previous)


def _more(counts: _Counts, kind: str, times: int) -> _Counts:
    if all(known != kind for known, _ in counts):
        return (*counts, (kind, times))
    return tuple((known, number + (times if known == kind else 0)) for known, number in counts)
