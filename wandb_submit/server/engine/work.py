"""The work behind each request of the server."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from wandb_submit.server.engine.config import Config, outline_of, parse_config, searched_here
from wandb_submit.server.engine.judge import judge
from wandb_submit.server.engine.points import draw_bayes, draw_grid, draw_random
from wandb_submit.server.engine.progress import Follower
from wandb_submit.server.engine.tried import tried
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.engine_answers import Drawn, Proposal, Ruling, Verdict
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.readers import replacing


class Desk:
    """Answers requests; reads the server's database, and never writes to it."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(database, isolation_level=None, timeout=30)
        self._connection.row_factory = sqlite3.Row
        self._connection.text_factory = replacing
        self._connection.execute("PRAGMA query_only=ON")
        self._followers: dict[int, tuple[str, Follower]] = {}

    def answer(self, request: Mapping[str, object]) -> Proposal | Drawn | Ruling:
        """Answers one request.

        Raises:
            Exception: whatever the engine raises.
        """
        values = Arguments(request)
        match request.get("op"):
            case "propose":
                return self._propose(values, request.get("prior"))
            case "draw":
                config = parse_config(values.required_text("config"))
                return self._draw(config, values, values.integer("first", 1))
            case "follow":
                return self._follow(values, request.get("changed"))
        raise ValueError(f"no such request: {request.get('op')!r}")

    def _propose(self, values: Arguments, prior: object) -> Proposal:
        try:
            config = parse_config(values.required_text("config"))
        except ValueError as error:
            return Proposal(verdict=Verdict(errors=(str(error),)), drawn=Drawn())
        verdict = judge(config)
        outline = None if verdict.errors else outline_of(values.required_text("config"), config)
        if verdict.errors or not searched_here(config):
            return Proposal(verdict=verdict, drawn=Drawn(), outline=outline)
        first = 1
        if prior is None:
            with self._reading() as tx:
                first = _after_handed_out(tx, values.integer("sweep", 0))
        return Proposal(verdict=verdict, drawn=self._draw(config, values, first, prior), first=first, outline=outline)

    def _draw(self, config: Config, values: Arguments, first: int, prior: object = None) -> Drawn:
        sweep, seed = values.integer("sweep", 0), values.required_text("seed")
        if config["method"] == "random":
            return draw_random(config, first, seed)
        grid = config["method"] == "grid"
        with self._reading() as tx:
            # The points of the present config are not in the grid's blocks to come.
            before = values.integer("since", first) if grid else first
            earlier = tried(tx, sweep, before, config, prior if isinstance(prior, list) else None)
        if grid:
            return draw_grid(config, earlier, values.integer("block", 0))
        return draw_bayes(config, earlier, first, seed)

    def _follow(self, values: Arguments, changed: object) -> Ruling:
        sweep, text = values.integer("sweep", 0), values.required_text("config")
        known = self._followers.get(sweep)
        runs = {int(run): row for run, row in changed.items()} if isinstance(changed, dict) else None
        if known is None or known[0] != text:
            known = self._followers[sweep] = (text, Follower(config=parse_config(text)))
            runs = None
        with self._reading() as tx:
            return known[1].look(tx, sweep, runs)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Transaction]:
        """One consistent state of the database."""
        self._connection.execute("BEGIN")
        try:
            yield Transaction(self._connection)
        finally:
            self._connection.execute("ROLLBACK")


def _after_handed_out(tx: Transaction, sweep: int) -> int:
    """The number of the first point that is not handed out yet."""
    return tx.integer("SELECT MAX(number) FROM points WHERE sweep = ? AND run IS NOT NULL", (sweep,)) + 1
