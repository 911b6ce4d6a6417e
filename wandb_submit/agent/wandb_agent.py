"""W&B's own agent in the place of ours: `wandb agent`, with a task's devices, signals and end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from wandb_submit.agent.outcome import Outcome
from wandb_submit.agent.runs.command import clean_environment
from wandb_submit.agent.runs.members import gentlest_signal, is_wandbs_own, send
from wandb_submit.agent.shares import Share
from wandb_submit.errors import RefusedError, WandbSubmitError
from wandb_submit.spec import Endpoint, SubmissionSpec, SweepRef
from wandb_submit.store.halt import Halt
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system.process import end_of, start_in_group
from wandb_submit.text import exit_words
from wandb_submit.wandb_api.credentials import find_login, patience, trial_environment

_LOOK_S = 2.0  # how often to look for a word that ends the submission
_LAST_WORDS_S = 15.0  # what it gets beyond its runs' grace
_LOG = logging.getLogger("wandb_submit.agent")


class StockAgent:
    """One `wandb agent` process; what it prints is in its task's log.

    It polls, counts its failures and finds the end of the sweep by itself. What a task's end asks for is ours: no
    new run, the gentlest signal for the runs, their grace. For that it is sent SIGINT once, on which every version
    takes no further run and waits for the running ones; its own ways of passing signals on differ between versions.
    Its runs are not among the submission's events, and where the task itself is killed they live on (not on Slurm,
    which kills what is left of a job): they run in process groups that nobody but their agent knows.
    """

    def __init__(
        self,
        *,
        sweep: SweepRef,
        endpoint: Endpoint,
        paths: SubmissionPaths,
        spec: SubmissionSpec,
        share: Share,
        count: int | None,
    ) -> None:
        self._sweep = sweep
        self._endpoint = endpoint
        self._paths = paths
        self._spec = spec
        self._share = share
        self._count = count
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping: str | None = None
        self._stopped = asyncio.get_running_loop().create_future()

    def stop(self, reason: str) -> None:
        """Takes no new run and ends the running ones; called again it changes nothing but the reason."""
        self._stopping = reason
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def run(self) -> Outcome:
        """Runs the agent to its end."""
        if self._stopped.done():
            return Outcome(reason=str(self._stopping), ok=True, runs=0)
        try:
            self._process = process = self._start()
        except (OSError, WandbSubmitError) as error:
            return Outcome(reason=f"wandb agent cannot be started: {error}", ok=False, runs=0)
        ended = end_of(process)
        halt: Halt | None = None
        while not ended.done() and not self._stopped.done():
            await asyncio.wait({ended, self._stopped}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if halt is None and (halt := Halt.read(self._paths.halt)):
                _LOG.info("no further runs: %s", halt.reason)
                self._take_no_more()
        if not ended.done():
            await self._end(ended)
        for pid in _descendants(process.pid):  # only if it was killed: otherwise there are none
            send(pid, signal.SIGKILL)
        if self._stopping is not None:
            return Outcome(reason=self._stopping, ok=True, runs=0)
        if halt is not None:
            return Outcome(reason=halt.reason, ok=halt.ok, runs=0)
        status = await ended
        how = f"ended with status {status}" if status >= 0 else exit_words(status, None)
        return Outcome(reason=f"wandb agent {how}", ok=status == 0, runs=0)

    def _start(self) -> subprocess.Popen[bytes]:
        limit = [] if self._count is None else ["--count", str(self._count)]
        offline = self._endpoint.server_dir is not None
        environment = clean_environment(self._share.environment(os.environ))
        environment.update(patience(environment, offline=offline))
        environment.update(trial_environment(find_login(self._endpoint), offline=offline))
        return start_in_group(
            (_program(), "agent", *limit, self._sweep.path),
            env=environment,
            cwd=self._spec.workdir,
            cores=self._share.cores if self._share.bind else (),
        )

    def _take_no_more(self) -> None:
        assert self._process is not None  # noqa: S101 it has been started
        send(self._process.pid, signal.SIGINT)

    async def _end(self, ended: asyncio.Future[int]) -> None:
        """Ends the agent and its runs: gently, then after the grace by SIGKILL."""
        assert self._process is not None  # noqa: S101 it has been started
        self._take_no_more()
        for pid in _descendants(self._process.pid):
            if not is_wandbs_own(pid):
                send(pid, gentlest_signal(pid))
        await asyncio.wait({ended}, timeout=self._spec.grace_s)
        if not ended.done():
            for pid in _descendants(self._process.pid):
                send(pid, signal.SIGKILL)
            await asyncio.wait({ended}, timeout=_LAST_WORDS_S)
        if not ended.done():
            self._process.kill()
            await ended


def _program() -> str:
    """The `wandb` command of this environment, or else that of PATH."""
    beside = Path(sys.executable).with_name("wandb")
    found = str(beside) if beside.exists() else shutil.which("wandb")
    if found is None:
        raise RefusedError("there is no `wandb` command, neither beside Python nor on PATH")
    return found


def _descendants(pid: int) -> Iterator[int]:
    """All processes that a process has started, and those that they have."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from _descendants(child)
