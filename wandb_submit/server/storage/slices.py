"""Deleting very many rows: a slice at a time, so that other requests are answered in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from wandb_submit.server.request.history_keys import HistoryKeys
from wandb_submit.server.storage.database import Database, Transaction

# How long the database's other writers wait for a slice, about; how many rows that are is found out.
_SLICE_S = 0.015
# Up to so many are deleted at once, with whatever else a request does.
_FEW = 500

_T = TypeVar("_T")
# Of each table the key beside the run, and the order from the last row on.
_KEYS = {"history": ("stream, number", "stream DESC, number DESC"), "console": ("number", "number DESC")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Doomed:
    """Rows of one run that are to go, the last ones first: what is left at any moment is a beginning.

    Attributes:
        table: `history` or `console`.
        condition: which rows, as SQL with its parameters.
    """

    table: str
    run: int
    condition: str
    parameters: tuple[object, ...] = ()

    def cut(self, tx: Transaction, most: int) -> int:
        """Deletes some of the rows; returns how many."""
        key, order = _KEYS[self.table]
        found = f"SELECT {key} FROM {self.table} WHERE run = ? AND {self.condition} ORDER BY {order} LIMIT ?"  # noqa: S608
        return tx.execute(
            # The condition stands in the inner query alone, or SQLite goes through all of the rows each time.
            f"DELETE FROM {self.table} WHERE run = ? AND ({key}) IN ({found})",  # noqa: S608 - constants
            (self.run, self.run, *self.parameters, most),
        )


class SurplusError(Exception):
    """A write has to delete more rows than should be deleted at once: they are to be cut before it begins again."""

    def __init__(self, doomed: Doomed) -> None:
        super().__init__(doomed)
        self.doomed = doomed


def demand_few(tx: Transaction, *doomed: Doomed) -> None:
    """Makes sure that rows can be deleted at once, with whatever else a request does.

    Raises:
        SurplusError: if they are too many.
    """
    for one in doomed:
        some = f"SELECT 1 FROM {one.table} WHERE run = ? AND {one.condition} LIMIT ?"  # noqa: S608 - constants
        if tx.integer(f"SELECT COUNT(*) FROM ({some})", (one.run, *one.parameters, _FEW + 1)) > _FEW:  # noqa: S608
            raise SurplusError(one)


async def written(
    database: Database, keys: HistoryKeys, work: Callable[[Transaction], _T], *, long: bool = False
) -> _T:
    """Runs `work` as `Database.write` does; what it finds too much to be deleted at once is cut before."""
    while True:
        try:
            return await database.write(work, long=long)
        except SurplusError as surplus:
            await cut(database, keys, surplus.doomed)


async def cut(database: Database, keys: HistoryKeys, doomed: Doomed) -> None:
    """Deletes rows, in as many transactions as it takes.

    Should the server die meanwhile, some of them are still there; whoever asked was not told that they are gone.

    Args:
        database: where they are.
        keys: what is known of the runs' histories.
        doomed: the rows.
    """
    most = _FEW

    def slice_of(tx: Transaction) -> tuple[int, float]:
        began = time.monotonic()
        if doomed.table == "history":
            keys.changed(tx, doomed.run)
        return doomed.cut(tx, most), time.monotonic() - began

    while True:
        gone, took = await database.write(slice_of, long=True)
        if not gone:
            return
        most = max(1, min(2 * most, int(most * _SLICE_S / max(took, 1e-6))))
