"""Tests for work that blocks beside an event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from wandb_submit.daemon_thread import in_daemon_thread


def test_a_thread_that_has_done_its_work_does_the_next() -> None:
    async def idents() -> set[int]:
        return {await in_daemon_thread(threading.get_ident) for _ in range(5)}

    assert len(asyncio.run(idents())) == 1


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


def test_a_fork_starts_threads_of_its_own() -> None:
    script = (
        "import asyncio, os\n"
        "from wandb_submit.daemon_thread import in_daemon_thread\n"
        "async def done(): return await in_daemon_thread(lambda: 'done')\n"
        "asyncio.run(done())\n"
        "child = os.fork()\n"
        "print(asyncio.run(asyncio.wait_for(done(), 10)), flush=True)\n"
        "if child: os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["done", "done"]
