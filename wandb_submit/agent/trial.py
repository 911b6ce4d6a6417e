"""One run's process on this node: how it starts, how it is told to stop, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from wandb_submit.process import start_in_group

_WANDBS_OWN = "wandb-"  # how the names of its programs begin: wandb-core, wandb-xpu


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
        self._ended = ended
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
            process = await start_in_group(argv, env=env, cwd=cwd, output=descriptor, cores=cores)
        finally:
            os.close(descriptor)
        return cls(run_id, process.pid, asyncio.ensure_future(process.wait()))

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
        """Kills the program and everything in its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _ask_to_end(self) -> None:
        """Sends each process of the group the signal that it ends on most cleanly.

        To all of them, because a wrapper such as `bash train.sh` does not pass on what it gets; but not to
        wandb-core, which the same signals kill, and the run's data with it.
        """
        if self._ended.done():
            return
        for pid in _group(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, gentlest_signal(pid))


def open_log(path: Path) -> int:
    """Opens a run's log to append to; it is its owner's alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _group(leader: int) -> list[int]:
    """The processes of a process group, without wandb-core."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # Behind the name, which may hold anything: state, parent, group (proc_pid_stat(5)).
            name, _, rest = (entry / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
        except OSError:
            continue
        if int(rest.split()[2]) == leader and not name.startswith(_WANDBS_OWN):
            members.append(int(entry.name))
    return members


def is_wandbs_own(pid: int) -> bool:
    """Whether a process is one of wandb's own: a signal would kill wandb-core, and its run's data with it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").startswith(_WANDBS_OWN)
    return False


def gentlest_signal(pid: int) -> signal.Signals:
    """The signal that a program is most likely to end cleanly on.

    SIGTERM if it listens to it. Otherwise SIGINT: Python turns it into KeyboardInterrupt, on which
    `wandb` sends what it has and ends the run as killed, while SIGTERM's default action loses up to 15 s of
    metrics and leaves the run to time out.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return signal.SIGTERM
    for line in status.splitlines():
        if line.startswith("SigCgt:"):
            caught = int(line.split()[1], 16)
            return signal.SIGTERM if caught >> (signal.SIGTERM - 1) & 1 else signal.SIGINT
    return signal.SIGTERM
