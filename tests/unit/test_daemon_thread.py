"""Tests for work that blocks beside an event loop."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from wandb_submit.system.threads import in_daemon_thread


def test_work_that_hangs_keeps_no_other_from_being_done() -> None:
    let_go = threading.Event()

    async def both() -> str:
        hanging = asyncio.ensure_future(in_daemon_thread(let_go.wait))
        await asyncio.wait({hanging}, timeout=0.1)
        hanging.cancel()
        return await in_daemon_thread(lambda: "done")

    assert asyncio.run(both()) == "done"
    let_go.set()


def test_what_the_work_raises_is_raised_where_it_is_awaited() -> None:
    async def fails() -> None:
        await in_daemon_thread(lambda: os.stat("/nowhere"))  # noqa: PTH116 it only has to fail

    with pytest.raises(FileNotFoundError, match="/nowhere"):
        asyncio.run(fails())
