"""What one array task runs: submitit unpickles an `AgentTask` on the node and calls it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from wandb_submit.agent import slurm_job
from wandb_submit.agent.loop import Outcome, SweepAgent
from wandb_submit.errors import WandbSubmitError
from wandb_submit.events import AgentStarted, AgentStopped, EventWriter, agent_name
from wandb_submit.halts import Halt
from wandb_submit.paths import SubmissionPaths
from wandb_submit.specs import Endpoint, SubmissionSpec, SweepRef

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# submitit's own, by the variable that it reads.
_REQUEUE_SIGNAL = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]

# The runner of this process: submitit calls `checkpoint` on the pickled value, which holds no state.
_current: _Runner | None = None


class AgentFailedError(WandbSubmitError):
    """An agent left with a reason that somebody should look at; makes its array task count as failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentTask:
    """One array task: one sweep agent on the devices that the scheduler gave this process.

    The value is pickled into the submission's folder, so it holds no secret.

    Attributes:
        folder: the submission's folder.
        index: the task's place in the array, from 0.
        spec: what was asked for; its `count` is what a requeued task has left.
        restarts: how often the task has been requeued from inside.
    """

    sweep: SweepRef
    endpoint: Endpoint
    folder: Path
    index: int
    spec: SubmissionSpec
    restarts: int = 0

    def __call__(self) -> str:
        """Runs the agent to its end; returns why it left.

        Raises:
            AgentFailedError: if the reason is one that somebody should look at.
        """
        global _current
        if self.spec.count == 0:
            return "--count was reached before the task was requeued"
        paths = SubmissionPaths(self.folder)
        if halt := Halt.read(paths.halt):
            return halt.reason
        if self._requeued_too_often(self._all_restarts() - 1):
            raise AgentFailedError(f"the task was requeued more often than --max-requeues {self.spec.max_requeues}")
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every heartbeat
        _current = _Runner(self)
        outcome = _current.run()
        if Halt.read(paths.halt):
            slurm_job.cancel_pending_tasks()
        if not outcome.ok:
            raise AgentFailedError(outcome.reason)
        if outcome.requeue:
            signal.raise_signal(_REQUEUE_SIGNAL)
        return outcome.reason

    def checkpoint(self) -> DelayedSubmission | None:
        """Called by submitit when the time limit is near or the task is preempted.

        Ends the running trials and returns what is to be requeued; `None` if the agent had failed.
        """
        from submitit.helpers import DelayedSubmission

        if _current is None:
            return DelayedSubmission(self)
        outcome = _current.drain("the task's time is up, or it is preempted")
        if outcome is None:
            return DelayedSubmission(self)
        if not outcome.ok or self._requeued_too_often(self._all_restarts()):
            return None
        # Also if there is nothing left to do: what is not requeued from here counts as failed.
        count = None if self.spec.count is None else max(self.spec.count - outcome.runs, 0)
        spec = dataclasses.replace(self.spec, count=count)
        return DelayedSubmission(dataclasses.replace(self, spec=spec, restarts=self.restarts + 1))

    def _all_restarts(self) -> int:
        """How often the task has been requeued; Slurm counts those that we did not ask for, too."""
        return max(self.restarts, int(os.environ.get("SLURM_RESTART_COUNT") or 0))

    def _requeued_too_often(self, restarts: int) -> bool:
        limit = self.spec.max_requeues
        if limit is None or restarts < limit:
            return False
        logging.getLogger("wandb_submit.agent").error("not requeued again: --max-requeues is %d", limit)
        return True


class _Runner:
    """Runs an agent's event loop in a second thread.

    submitit calls `checkpoint` inside a signal handler, which Python runs in the main thread: the loop has to
    live elsewhere to be able to end its trials meanwhile. The main thread waits in `select` on the pipe that
    signals write to: where two signals come at once, as Slurm sends SIGCONT with each, the kernel gives the second
    one to another thread, and `Thread.join` would not run its handler before the thread has ended.
    """

    def __init__(self, task: AgentTask) -> None:
        self._task = task
        self._loop = asyncio.new_event_loop()
        self._agent: SweepAgent | None = None
        self._stop_before_start: str | None = None
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._draining = False
        self._ended, self._on_end = os.pipe()  # closed by the thread at its end
        self._woken, self._on_signal = os.pipe()  # written to by every signal
        os.set_blocking(self._on_signal, False)
        os.set_blocking(self._woken, False)
        self._thread = threading.Thread(target=self._main, name="agent-loop")

    def run(self) -> Outcome:
        """Starts the agent and waits for its end; signals ask it to stop."""
        with self._signals():
            self._thread.start()
            self._wait()
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None  # noqa: S101 the thread sets one or the other
        return self._outcome

    def drain(self, reason: str) -> Outcome | None:
        """Asks the agent to stop and waits until it has; called in a signal handler of the main thread.

        Returns:
            How the agent ended; `None` if it had not begun.
        """
        if self._thread.ident is None:
            return None
        self._draining = True
        if self._outcome is None:
            self.stop(reason)
            self._wait()
        return self._outcome

    def _wait(self) -> None:
        """Waits for the thread's end, and lets signal handlers run meanwhile; handlers may call it, too."""
        while True:
            ready, _, _ = select.select([self._ended, self._woken], [], [])
            if self._ended in ready:  # at its end the pipe stays readable, for whoever else waits
                return
            with contextlib.suppress(BlockingIOError):  # a handler that waited meanwhile has read it
                os.read(self._woken, 4096)

    def stop(self, reason: str) -> None:
        """Asks the agent to stop, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the agent with it
            self._loop.call_soon_threadsafe(self._stop, reason)

    def _stop(self, reason: str) -> None:
        if self._agent is None:
            self._stop_before_start = reason
        else:
            self._agent.stop(reason)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        # Handlers also give trials the default actions back: what a batch script starts in the background
        # inherits SIGINT ignored, and so would they; a handler, unlike "ignore", does not survive exec.
        def on_signal(number: int, frame: FrameType | None) -> None:
            self.stop(f"received {signal.Signals(number).name}")
            if number == signal.SIGTERM and not self._draining and slurm_job.is_preempted():
                self._draining = True
                signal.raise_signal(_REQUEUE_SIGNAL)  # submitit's: it calls `checkpoint`, and requeues the task

        wakeup = signal.set_wakeup_fd(self._on_signal, warn_on_full_buffer=False)
        before = {number: signal.signal(number, on_signal) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)

    def _main(self) -> None:
        try:
            self._outcome = self._loop.run_until_complete(self._run_agent())
        except BaseException as error:  # noqa: BLE001 carried to the main thread, which raises it
            self._error = error
        finally:
            self._loop.close()
            os.close(self._on_end)

    async def _run_agent(self) -> Outcome:
        task, paths = self._task, SubmissionPaths(self._task.folder)
        events = EventWriter(paths.events(agent_name(task.index)))
        events.write(
            AgentStarted(
                task=task.index,
                host=socket.gethostname(),
                pid=os.getpid(),
                job_id=_job_id(),
                gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
                cpus=sorted(os.sched_getaffinity(0)),
                restarts=task._all_restarts(),
            )
        )
        self._agent = SweepAgent(
            sweep=task.sweep,
            endpoint=task.endpoint,
            paths=paths,
            events=events,
            host=socket.gethostname(),
            spec=task.spec,
            ends_at=slurm_job.ends_at(ask=task.spec.time_min is None),
        )
        if self._stop_before_start is not None:
            self._agent.stop(self._stop_before_start)
        outcome = await self._agent.run()
        events.write(AgentStopped(reason=outcome.reason, ok=outcome.ok, runs=outcome.runs))
        logging.getLogger("wandb_submit.agent").info("the agent ends: %s", outcome.reason)
        events.close()
        return outcome


def _job_id() -> str:
    """The scheduler's id of this array task, in the form that `squeue` and `scancel` use."""
    return slurm_job.task_id() or os.environ.get("WANDB_SUBMIT_JOB_ID") or os.environ.get("SLURM_JOB_ID") or ""
