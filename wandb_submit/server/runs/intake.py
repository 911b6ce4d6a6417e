"""Takes in what runs send: the small at once, the large in parts, with everybody else's requests in between."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

from wandb_submit.server.request.clerk import Clerk
from wandb_submit.server.request.context import Context, ServerFacts
from wandb_submit.server.runs import stream
from wandb_submit.server.runs.sent import Sent, read_sent
from wandb_submit.server.storage.database import Database, Transaction
from wandb_submit.server.storage.slices import cut, written
from wandb_submit.server.storage.staging import part_of, stage_stream

# Entity, project and name of a run.
Place: TypeAlias = tuple[str, str, str]


class Turns:
    """One request of a run after the other: a large one takes several transactions."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, *place: str) -> AsyncIterator[None]:
        """Waits for the turn of a request of a run, which lasts until the block ends."""
        entity, project, run = place
        lock = self._locks.setdefault((entity, project, run), asyncio.Lock())
        async with lock:
            yield


@dataclass(frozen=True, kw_only=True, slots=True)
class Intake:
    """Where what runs send ends up."""

    database: Database
    server: ServerFacts
    clerk: Clerk

    async def take(self, place: Place, body: Mapping[str, object] | Path) -> Mapping[str, object]:
        """Stores what a run has sent: its object, or the file with its text; returns the answer.

        Raises:
            Refusal: if it is not what W&B's clients send, or there is no such run.
        """
        if not isinstance(body, Path):
            return await self._stored(place, await read_sent(body))
        staging = body.with_name(f"{body.name}.parts")
        try:
            sent = await self.clerk.do(stage_stream, body, staging)
            if sent.parts:
                await self._store_parts(place, sent, staging)
            return await self._stored(place, sent)
        finally:
            staging.unlink(missing_ok=True)

    async def _stored(self, place: Place, sent: Sent) -> Mapping[str, object]:
        def work(tx: Transaction) -> Mapping[str, object]:
            return stream.take(Context(tx=tx, server=self.server, base_url=""), *place, sent)

        return await written(self.database, self.server.history_keys, work, long=sent.is_long)

    async def _store_parts(self, place: Place, sent: Sent, staging: Path) -> None:
        """Stores the lines of a large request; should the server die meanwhile, a beginning of them is there."""
        run = await self.database.read(lambda tx: stream.expects(tx, *place, sent))
        if run is None:
            return
        for name, (offset, _) in sent.rows.items():
            await cut(self.database, self.server.history_keys, stream.beyond(run, name, offset))
        for part in range(sent.parts):
            lines = await asyncio.to_thread(part_of, staging, part)
            await self.database.write(functools.partial(stream.store_lines, run=run, lines=lines), long=True)
