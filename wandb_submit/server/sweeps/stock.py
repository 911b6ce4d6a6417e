"""How many points of a sweep should wait for agents, and which is the next to choose."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from wandb_submit.server.engine.config import Config, config_of, searched_here
from wandb_submit.server.runs.state import ENDED as RUN_ENDED
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.sweeps.search import handed_out
from wandb_submit.server.sweeps.sweep import ENDED

# An agent that was silent for longer is not expected to ask; W&B's speak every 5 s.
_LIVE_S = 120
# For the agents that register and ask at once, and those of a sweep that has none yet.
_SPARE = 64
# Bayes looks at what other runs have shown; a point drawn long before it is used would be a stale one.
_MAX_BAYES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Lack:
    """What the search should draw for a sweep now.

    Attributes:
        row: the sweep.
        config: its config.
        first: the number of the first point to draw.
        known: how many of its runs have ended.
    """

    row: sqlite3.Row
    config: Config
    first: int
    known: int = 0


def lack(tx: Transaction, number: int, now: float) -> Lack | None:
    """What a sweep lacks; None if nothing."""
    row = tx.one("SELECT * FROM sweeps WHERE number = ?", (number,))
    if row is None or row["state"] in ENDED or row["exhausted"] or row["drawn"]:
        return None
    config = config_of(row)
    if not searched_here(config):
        return None
    agents = tx.integer(
        "SELECT COUNT(*) FROM agents WHERE sweep = ? AND state = 'RUNNING' AND heartbeat_at > ?",
        (number, now - _LIVE_S),
    )
    last = tx.integer("SELECT MAX(number) FROM points WHERE sweep = ?", (number,))
    if config["method"] == "bayes":
        return _lack_of_bayes(tx, row, config, last, min(_MAX_BAYES, max(1, agents)))
    waiting = tx.integer(
        "SELECT COUNT(*) FROM points INDEXED BY waiting_points WHERE sweep = ? AND run IS NULL", (number,)
    )
    return None if waiting >= agents + _SPARE else Lack(row=row, config=config, first=last + 1)


def _lack_of_bayes(tx: Transaction, row: sqlite3.Row, config: Config, last: int, wanted: int) -> Lack | None:
    """The first point that is missing, or that was chosen before the last results came in.

    Points are chosen one at a time and handed out in order, so the next agent gets one of what is known now as soon
    as there is one, and an older one until then.
    """
    number = int(row["number"])
    ended = tx.integer(
        "SELECT COUNT(*) FROM runs WHERE sweep = ? AND state IN (?, ?, ?, ?)",
        (number, *RUN_ENDED),
    )
    first = handed_out(tx, number) + 1
    stale = tx.one(
        "SELECT number FROM points INDEXED BY waiting_points WHERE sweep = ? AND run IS NULL AND number < ?"
        " AND known <> ? ORDER BY number LIMIT 1",
        (number, first + wanted, ended),
    )
    if stale is not None:
        return Lack(row=row, config=config, first=stale["number"], known=ended)
    if last + 1 < first + wanted:
        return Lack(row=row, config=config, first=last + 1, known=ended)
    return None
