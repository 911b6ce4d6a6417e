"""The two sides that are compared: W&B's agents, one per terminal, and wandb-submit's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol


class Side(Protocol):
    """A way to run a sweep with several agents on this machine."""

    name: str

    def start(self, sweep: str, *, agents: int, count: int | None = None) -> None:
        """Starts agents for a sweep; each takes at most `count` runs."""

    def processes(self) -> list[int]:
        """All processes of the agents, and the trials'."""

    def stop(self) -> None:
        """Ends them."""


@dataclass
class Terminals:
    """`wandb agent SWEEP`, once per agent, as W&B's documentation says."""

    folder: Path
    env: Mapping[str, str]
    name: ClassVar[str] = "wandb agent"
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, sweep: str, *, agents: int, count: int | None = None) -> None:
        limit = [] if count is None else ["--count", str(count)]
        for _ in range(agents):
            with (self.folder / "agents.log").open("ab") as log:
                self._started.append(
                    subprocess.Popen(
                        ["wandb", "agent", *limit, sweep],
                        cwd=self.folder,
                        env={**os.environ, **self.env},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def processes(self) -> list[int]:
        return _sessions({process.pid for process in self._started})

    def stop(self) -> None:
        _end(self.processes())
        for process in self._started:
            process.wait()
        self._started.clear()


@dataclass
class Submission:
    """`wandb-submit SWEEP --executor local --array N`."""

    folder: Path
    env: Mapping[str, str]
    options: Sequence[str] = ("--offline",)
    name: ClassVar[str] = "wandb-submit"

    def start(self, sweep: str, *, agents: int, count: int | None = None) -> None:
        limit = [] if count is None else ["--count", str(count)]
        plain = ("--executor", "local", "--gpus-per-task", "0")
        command = ["wandb-submit", sweep, *self.options, *plain, "--array", str(agents), *limit]
        with (self.folder / "agents.log").open("ab") as log:
            subprocess.run(
                [*command, "--detach"],
                cwd=self.folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    def processes(self) -> list[int]:
        """Found by their folder: the scheduler and the tasks are detached from whoever started them."""
        ours = set()
        for pid in _all():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(word.startswith(b"wandb_submit.executors.local") for word in words) and any(
                    word.startswith(str(self.folder).encode()) for word in words
                ):
                    ours.add(os.getsid(pid))
        return _sessions(ours)

    def stop(self) -> None:
        _end(self.processes())


@dataclass
class PlainSubmitit:
    """Our agents as jobs of submitit's own local executor, from a program of a few lines."""

    folder: Path
    env: Mapping[str, str]
    name: ClassVar[str] = "submitit's executor"
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, sweep: str, *, agents: int, count: int | None = None) -> None:
        program = str(Path(__file__).with_name("plain_submitit.py"))
        with (self.folder / "agents.log").open("ab") as log:
            self._started.append(
                subprocess.Popen(
                    [sys.executable, program, sweep, str(agents), str(count or 0)],
                    cwd=self.folder,
                    env={**os.environ, **self.env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def processes(self) -> list[int]:
        """Without the program itself, which need not wait for the jobs' ends."""
        programs = {process.pid for process in self._started}
        return [pid for pid in _sessions(programs) if pid not in programs]

    def stop(self) -> None:
        programs = [process.pid for process in self._started]
        _end([*programs, *self.processes()])
        for process in self._started:
            process.wait()
        self._started.clear()


def memory_kb(pids: Sequence[int]) -> int:
    """The proportional set size of processes: what they use, with shared pages divided among their users."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def _all() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _sessions(leaders: set[int]) -> list[int]:
    """The processes of sessions. A trial is in that of its agent."""
    found = []
    for pid in _all():
        with contextlib.suppress(OSError):
            if os.getsid(pid) in leaders:
                found.append(pid)
    return found


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        time.sleep(0.05)
