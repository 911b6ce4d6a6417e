"""The server's side of the search process: it is there when it is needed, and gone when it is not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from wandb_submit.errors import UnavailableError
from wandb_submit.server.request.engine_answers import Drawn, Proposal, Ruling, Verdict
from wandb_submit.system.process import python_argv, start_worker

_log = logging.getLogger(__name__)
# Far more than any search takes: bayes with 100,000 runs takes seconds.
_TIMEOUT_S = 120
# It takes two seconds to start, and 150 MB while it is there.
_IDLE_S = 90
# A process of one thread is enough; the processors belong to the runs.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class SearchFailedError(UnavailableError):
    """The search process ended or answered with an error."""


class SearchRefusedError(SearchFailedError):
    """The engine answered that it cannot do what it was asked for; asked again, it would say the same."""


class _EndedError(SearchFailedError):
    """The search process ended before it had answered."""


class SearchProcess:
    """W&B's engine in a process of its own, started at the first request and again whenever it has ended."""

    def __init__(self, database: Path) -> None:
        self._argv = [
            *python_argv("wandb_submit.server.engine"),
            *("--data", str(database), "--parent", str(os.getpid())),
        ]
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._leaving: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None

    async def propose(self, config: str, *, sweep: int, seed: str, prior: list[int] | None) -> Proposal:
        """Judges a sweep's new config and draws its first points; `prior` is None for a sweep that exists."""
        answer = await self._ask(op="propose", config=config, sweep=sweep, seed=seed, prior=prior)
        verdict = dict(_object(answer["verdict"]))
        return Proposal(
            verdict=Verdict(
                errors=tuple(str(text) for text in _list(verdict["errors"])),
                warnings=tuple(str(text) for text in _list(verdict["warnings"])),
                grid_size=_number_or_none(verdict["grid_size"]),
            ),
            drawn=_drawn(_object(answer["drawn"])),
            first=_number_or_none(answer["first"]) or 1,
            outline=None if answer["outline"] is None else str(answer["outline"]),
        )

    async def draw(self, config: str, *, sweep: int, seed: str, first: int, block: int, since: int) -> Drawn:
        """Draws points from number `first` on; for a grid those of a block, of which none before `since` is."""
        return _drawn(
            await self._ask(op="draw", config=config, sweep=sweep, seed=seed, first=first, block=block, since=since)
        )

    async def follow(self, config: str, *, sweep: int, changed: Mapping[int, int | None] | None) -> Ruling:
        """Looks at what the runs of a sweep have sent; `changed` None means that any may have sent something."""
        answer = await self._ask(op="follow", config=config, sweep=sweep, changed=changed)
        stop = tuple(number for number in _list(answer["stop"]) if isinstance(number, int))
        return Ruling(stop=stop, reached=answer["reached"] is True)

    async def end(self) -> None:
        """Ends the process; a later request would start another."""
        if self._leaving is not None:
            self._leaving.cancel()
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _ask(self, **request: object) -> Mapping[str, object]:
        async with self._turn:
            if self._leaving is not None:
                self._leaving.cancel()
            try:
                return await self._answered(request)
            except _EndedError:
                # Somebody may have killed it; if it was this request, it ends the next one as well.
                return await self._answered(request)
            finally:
                self._leaving = asyncio.get_running_loop().call_later(_IDLE_S, self._leave)

    async def _answered(self, request: Mapping[str, object]) -> Mapping[str, object]:
        process = await self._started()
        assert process.stdin is not None  # noqa: S101 - pipes, as asked for
        assert process.stdout is not None  # noqa: S101
        complete = False
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), _TIMEOUT_S)
            complete = line.endswith(b"\n")
        except ConnectionError as error:
            raise _EndedError("the search process has ended") from error
        except asyncio.TimeoutError as error:
            raise SearchFailedError(f"the search has found no answer in {_TIMEOUT_S} s") from error
        finally:
            if not complete:
                # Also when nobody waits for the answer any more: the next one would be taken for it.
                await self.end()
        if not complete:
            raise _EndedError(f"the search process has ended with status {process.returncode}")
        answer = json.loads(line)
        if "answer" not in answer:
            raise SearchRefusedError(f"the search failed: {answer.get('error')}")
        return _object(answer["answer"])

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is not None:
            _log.warning("the search process has ended with status %d: another takes over", self._process.returncode)
            self._process = None
        if self._process is None:
            self._process = await start_worker(self._argv, env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")})
        return self._process

    def _leave(self) -> None:
        """Lets the idle process go: it ends when its input does."""
        if self._process is not None and self._process.stdin is not None:
            process, self._process = self._process, None
            self._closing = asyncio.ensure_future(_close(process))


async def _close(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe, as asked for
    process.stdin.close()
    await process.wait()


def _drawn(answer: Mapping[str, object]) -> Drawn:
    return Drawn(
        points=tuple(_object(point) for point in _list(answer["points"])),
        next_block=_number_or_none(answer["next_block"]) or 0,
        done=answer["done"] is True,
        remark=str(answer["remark"]),
    )


def _object(value: object) -> Mapping[str, object]:
    assert isinstance(value, dict)  # noqa: S101 - our own process, whose answers are dataclasses
    return value


def _list(value: object) -> list[object]:
    assert isinstance(value, list)  # noqa: S101 - as above
    return value


def _number_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None
