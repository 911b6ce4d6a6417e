"""The processes of one run on this node: which they are, and how they are asked to end or made to.

Most stay in the process group of the run's command. Launchers such as torchrun give each process that they start a
session of its own; these are known by the environment that they have inherited.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.system.process import JOB

_WANDBS_OWN = "wandb-"  # how the names of its programs begin: wandb-core, wandb-xpu
_ROUNDS = 20  # of looking for what forks faster than it is killed


@dataclass(frozen=True, kw_only=True, slots=True)
class _Process:
    """What `/proc/PID/stat` tells."""

    pid: int
    name: str
    parent: int
    group: int


class Members:
    """All processes of a run but wandb-core, which sends the run's data and ends by itself when the run has.

    Args:
        leader: the process, and process group, that the run was started as.
        run_id: the run.
        rank: the variables that set this rank's processes apart from those of others on the same node.
    """

    def __init__(self, leader: int, run_id: str, rank: Iterable[str] = ()) -> None:
        self._leader = leader
        # A job that the run has submitted has inherited the run's variables, but has an id of its own.
        jobs = [name for name in (JOB, "SLURM_JOB_ID") if name in os.environ]
        marks = {"WANDB_RUN_ID": run_id, **{name: os.environ[name] for name in (*jobs, *rank)}}
        self._marks = {f"{name}={value}".encode() for name, value in marks.items()}
        self._asked: set[int] = set()

    def ask_to_end(self) -> bool:
        """Sends each process the signal that it ends on most cleanly; never twice.

        To all of the group, because a wrapper such as `bash train.sh` does not pass on what it gets. But torchrun does
        so by SIGTERM, on which a `wandb` run loses its end: where a process out of the group owns the run, it and its
        like are asked, and the launcher when they have ended.

        Returns:
            Whether all have been asked; if not, to be called again in a moment.
        """
        processes = _processes()
        outside = self._outside(processes)
        owners = {process.parent for process in processes if process.name.startswith(_WANDBS_OWN)}
        launchers = {process.parent for process in outside if process.pid in owners}
        first = [
            process.pid
            for process in outside
            if process.pid in owners or (process.parent in launchers and _listens_to_sigterm(process.pid))
        ]
        group = [process.pid for process in processes if process.group == self._leader and not _is_wandbs(process)]
        for pid in first or group:
            if pid not in self._asked:
                self._asked.add(pid)
                send(pid, gentlest_signal(pid))
        return not first

    def kill_group(self) -> None:
        """Kills what is in the run's process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, signal.SIGKILL)

    def kill(self) -> None:
        """Kills all of them, those in other sessions included."""
        self.kill_group()
        killed: set[int] = set()
        for _ in range(_ROUNDS):
            found = {process.pid for process in self._outside(_processes())} - killed
            if not found:
                return
            for pid in found:
                send(pid, signal.SIGKILL)
            killed |= found

    def _outside(self, processes: Iterable[_Process]) -> list[_Process]:
        """The run's processes that have left its group."""
        return [
            process
            for process in processes
            if process.group != self._leader
            and process.pid != os.getpid()
            and not _is_wandbs(process)
            and self._marks <= _environment(process.pid)
        ]


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
    return signal.SIGINT if _listens_to_sigterm(pid) is False else signal.SIGTERM


def send(pid: int, number: signal.Signals) -> None:
    """Sends a process a signal, if it is still there and ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _listens_to_sigterm(pid: int) -> bool | None:
    """Whether a process has a handler of SIGTERM; `None` if it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return None


def _is_wandbs(process: _Process) -> bool:
    return process.name.startswith(_WANDBS_OWN)


def _processes() -> list[_Process]:
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 there may be thousands
        if not entry.isdecimal():
            continue
        try:
            # Behind the name, which may hold anything: state, parent, group (proc_pid_stat(5)).
            stat = Path("/proc", entry, "stat").read_text(errors="replace")
        except OSError:
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        _, parent, group = rest.split()[:3]
        found.append(_Process(pid=int(entry), name=name, parent=int(parent), group=int(group)))
    return found


def _environment(pid: int) -> set[bytes]:
    """The variables that a process was started with; none of others' processes, and of those that have ended."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()
