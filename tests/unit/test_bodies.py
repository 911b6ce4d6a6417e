"""How much of what clients send the server holds at a time, and in which order it works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from starlette.requests import Request

from wandb_submit.server.request import bodies
from wandb_submit.server.request.bodies import QUERY, STREAM, Bodies
from wandb_submit.server.request.lane import Lane
from wandb_submit.server.storage.refusals import Refusal

MB = bodies.MEGABYTE


def request(receive: Callable[[], Awaitable[dict[str, object]]], announced: int | None = None) -> Request:
    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


class Sender:
    """A client that sends a first part at once, and the rest when it is told."""

    def __init__(self, first: bytes, rest: bytes = b"", announced: int | None = None) -> None:
        self._parts = [(first, True), (rest, False)]
        self.goes_on = asyncio.Event()
        self.request = request(self._receive, announced)

    async def _receive(self) -> dict[str, object]:
        body, more = self._parts.pop(0)
        if not more:
            await self.goes_on.wait()
        return {"type": "http.request", "body": body, "more_body": more}


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_large_bodies_are_refused_when_there_is_no_room_and_small_ones_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(bodies, "_MAX_HELD", 10 * MB)

    async def scenario() -> None:
        held = Bodies(tmp_path)

        async def take(sender: Sender) -> int:
            async with held.json_object(sender.request, STREAM) as body:
                return body.stat().st_size if isinstance(body, Path) else len(body)

        announces = Sender(b'{"a": "', b"x" * MB + b'"}', announced=6 * MB)
        grows = Sender(b'{"a": "' + b"x" * 3 * MB, b'"}')
        waiting = [asyncio.create_task(take(one)) for one in (announces, grows)]
        await settled()
        for refused in (Sender(b"", announced=2 * MB), Sender(b'{"a": "' + b"x" * 2 * MB)):
            with pytest.raises(Refusal, match="too many large requests") as caught:
                await take(refused)
            assert caught.value.status == 503
        small = Sender(b'{"a": 1, "b": 2}')
        small.goes_on.set()
        assert await take(small) == 2
        # Whoever ends makes room, also one that gives up.
        waiting[0].cancel()
        grows.goes_on.set()
        assert await waiting[1] > 3 * MB
        later = Sender(b'{"a": "' + b"x" * 9 * MB, b'"}')
        later.goes_on.set()
        assert await take(later) > 9 * MB
        # None of them has left anything on the disk.
        assert list(tmp_path.iterdir()) == []

    asyncio.run(scenario())


def test_streams_are_worked_on_a_few_at_a_time_and_queries_are_not(tmp_path: Path):
    async def scenario() -> None:
        held, inside, go = Bodies(tmp_path), [], asyncio.Event()

        async def take(kind: bodies.Kind, size: int) -> None:
            sender = Sender(b'{"a": "' + b"x" * size + b'"}')
            sender.goes_on.set()
            async with held.json_object(sender.request, kind):
                inside.append((kind, size))
                await go.wait()

        tasks = [asyncio.create_task(take(kind, 30_000)) for _ in range(5) for kind in (STREAM, QUERY)]
        await settled()
        assert (inside.count((STREAM, 30_000)), inside.count((QUERY, 30_000))) == (2, 5)
        go.set()
        await asyncio.gather(*tasks)
        assert inside.count((STREAM, 30_000)) == 5

    asyncio.run(scenario())


def test_streams_that_wait_for_their_turn_keep_no_others_from_being_worked_on(tmp_path: Path):
    async def scenario() -> None:
        held, turn, inside = Bodies(tmp_path), asyncio.Lock(), []

        async def take(name: str, own: AbstractAsyncContextManager[None] | None = None) -> None:
            sender = Sender(b'{"a": "' + b"x" * 60_000 + b'"}')
            sender.goes_on.set()
            async with held.json_object(sender.request, STREAM, own):
                inside.append(name)

        await turn.acquire()
        waiting = asyncio.create_task(take("waits", turn))
        await settled()
        await take("another")
        turn.release()
        await waiting
        assert inside == ["another", "waits"]

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_lane_lets_in_what_fits_in_the_order_of_coming():
    async def scenario() -> None:
        lane, order = Lane(10), []
        ends = {name: asyncio.Event() for name in "abcde"}

        async def pass_through(name: str, size: int) -> None:
            async with lane.enter(size):
                order.append(name)
                await ends[name].wait()

        tasks = {
            name: asyncio.create_task(pass_through(name, size))
            for name, size in zip("abcde", (6, 4, 99, 3, 3), strict=True)
        }
        await settled()
        assert order == ["a", "b"]
        ends["a"].set()
        await settled()
        # One that is too large goes alone, and nobody overtakes it.
        assert order == ["a", "b"]
        ends["b"].set()
        await settled()
        assert order == ["a", "b", "c"]
        # One that gives up while it waits, and one that gives up inside, leave the lane to the others.
        tasks["d"].cancel()
        tasks["c"].cancel()
        await settled()
        assert order == ["a", "b", "c", "e"]
        ends["e"].set()
        await tasks["e"]
        ends["e"].clear()
        last = asyncio.create_task(pass_through("e", 10))
        await settled()
        assert order == ["a", "b", "c", "e", "e"]
        last.cancel()

    asyncio.run(scenario())
