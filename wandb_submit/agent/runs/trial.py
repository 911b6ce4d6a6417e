"""One run's process on this node: how it starts, how it is told to stop, how it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from wandb_submit.agent.runs.members import Members
from wandb_submit.system.process import end_of, start_in_group

_ASK_AGAIN_S = 0.2


class Trial:
    """A run's program, running in a process group of its own.

    It starts as `wandb agent` starts it: own process group, closed standard input (with a terminal's, `import
    torch` can hang on SIGTTIN, https://github.com/wandb/wandb/pull/10489). If the agent dies, so does it.

    Args:
        run_id: the run.
        pid: the process.
        ended: becomes its exit status, negative for a signal's number.
        warm: whether it was forked from a zygote.
    """

    def __init__(self, run_id: str, pid: int, ended: asyncio.Future[int], *, warm: bool = False) -> None:
        self.run_id = run_id
        self.pid = pid
        self.warm = warm
        self.stop_reason: str | None = None
        self.out_of_memory = False  # as far as it has told itself; on this node, `oom_kills` does
        self._ended = ended
        self._members = Members(pid, run_id)
        self._told_to_stop_at: float | None = None

    @classmethod
    async def start(
        cls,
        run_id: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        cores: Collection[int] = (),
    ) -> Trial:
        """Starts the program; what it prints is appended to `log`. It runs on `cores`, or as its parent does.

        Raises:
            OSError: if it cannot be started, or the log not written.
        """
        descriptor = open_log(log)
        try:
            process = start_in_group(argv, env=env, cwd=cwd, output=descriptor, cores=cores)
        finally:
            os.close(descriptor)
        return cls(run_id, process.pid, end_of(process))

    async def wait(self) -> int:
        """Waits for the program's end; returns its exit status, negative for a signal's number."""
        return await asyncio.shield(self._ended)

    def stop(self, reason: str, *, kill_after_s: float) -> None:
        """Asks the program to end; asked again after `kill_after_s` seconds, kills it."""
        now = asyncio.get_running_loop().time()
        if self._told_to_stop_at is None:
            self._told_to_stop_at = now
            self.stop_reason = reason
            self._ask_to_end()
        elif now >= self._told_to_stop_at + kill_after_s:
            self.kill()

    def kill(self) -> None:
        """Kills the program and all that it has started; of one that has ended well, what is in its process group."""
        if self._ended.done() and self._ended.result() == 0:
            self._members.kill_group()
        else:
            self._members.kill()

    def _ask_to_end(self) -> None:
        if not self._ended.done() and not self._members.ask_to_end():
            asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._ask_to_end)


def open_log(path: Path) -> int:
    """Opens a run's log to append to; it is its owner's alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
