"""The process that reads large requests, when it ends over them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from wandb_submit.server.request.clerk import Clerk
from wandb_submit.server.storage.refusals import Refusal


def kill_once(mark: Path) -> int:
    """Ends the process that it runs in, the first time."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_beside_work_that_ends_the_process_is_done_again(tmp_path: Path):
    async def scene() -> list[int | BaseException]:
        clerk = Clerk()
        try:
            return await asyncio.gather(
                *(clerk.do(kill_once, tmp_path / "mark") for _ in range(5)), return_exceptions=True
            )
        finally:
            clerk.close()

    done = asyncio.run(scene())
    assert len(set(done)) == 1, done
    assert done[0] != os.getpid()


def test_work_that_ends_the_process_again_is_refused_and_the_next_is_done():
    async def scene() -> tuple[int, int]:
        clerk = Clerk()
        try:
            await clerk.do(kill)
        except Refusal as refusal:
            return refusal.status, await clerk.do(os.getpid)
        finally:
            clerk.close()
        return 0, 0

    status, process = asyncio.run(scene())
    assert status == 503
    assert process not in (0, os.getpid())
