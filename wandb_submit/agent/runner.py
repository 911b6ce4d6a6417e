"""The process of one array task: its agents' event loop, its signals, and its way back into the queue."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

from wandb_submit.agent import cuts, gpus, slurm_job
from wandb_submit.agent.assignment import Assignment
from wandb_submit.agent.outcome import Outcome
from wandb_submit.agent.shares import Share, shares
from wandb_submit.agent.sweep_agent import SweepAgent
from wandb_submit.agent.wandb_agent import StockAgent
from wandb_submit.devices.variables import variable_of
from wandb_submit.store.events import AgentStarted, AgentStopped, EventWriter, agent_name
from wandb_submit.store.halt import CANCELLED, PREEMPTED, TIME_LIMIT
from wandb_submit.store.paths import SubmissionPaths

_TICKS_S = 60.0  # Slurm looks at time limits every 30 s, and sends the signal up to so much earlier
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOG = logging.getLogger("wandb_submit.agent")


class Agent(Protocol):
    """What a task runs: works on the sweep until there is a reason to leave, and may be given one by `stop`."""

    def stop(self, reason: str) -> None: ...  # noqa: D102 the class says it

    async def run(self) -> Outcome: ...  # noqa: D102 likewise


class TaskRunner:
    """Runs the agents of a task on one event loop, in a second thread.

    submitit calls `checkpoint` inside a signal handler, which Python runs in the main thread: the loop has to
    live elsewhere to be able to end its trials meanwhile. The main thread waits in `select` on the pipe that
    signals write to: where two signals come at once, as Slurm sends SIGCONT with each, the kernel gives the second
    one to another thread, and `Thread.join` would not run its handler before the thread has ended.
    """

    def __init__(self, task: Assignment) -> None:
        self._task = task
        self._loop = asyncio.new_event_loop()
        self._agents: list[Agent] = []
        self._works: list[asyncio.Future[Outcome]] = []
        self._ends_at: float | None = None  # when Slurm ends the task, in seconds since the epoch, if that is known
        self._stopping: str | None = None
        self._outcomes: list[Outcome] | None = None
        self._error: BaseException | None = None
        self._draining = False
        self._preempted = False  # as far as a signal has told
        self._ended, self._on_end = os.pipe()  # closed by the thread at its end
        self._woken, self._on_signal = os.pipe()  # written to by every signal
        os.set_blocking(self._on_signal, False)
        os.set_blocking(self._woken, False)
        self._thread = threading.Thread(target=self._main, name="agent-loop")

    def run(self) -> list[Outcome]:
        """Starts the agents and waits for their end; signals ask them to stop."""
        with self._signals():
            self._thread.start()
            self._wait()
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._outcomes is not None  # noqa: S101 the thread sets one or the other
        return self._outcomes

    def drain(self) -> list[Outcome] | None:
        """Asks the agents to stop and waits until they have; called in a signal handler of the main thread.

        Slurm is asked afterwards whether it preempts the task: the answer may take a while, in which runs end.

        Returns:
            How they ended; `None` if they had not begun.
        """
        if self._thread.ident is None:
            return None
        self._draining = True
        if self._outcomes is None:
            if self._stopping is None:
                self.stop(TIME_LIMIT if self._is_near_its_limit() else f"received {slurm_job.REQUEUE_SIGNAL.name}")
            if self._preempted or (self._task.spec.executor == "slurm" and slurm_job.is_preempted()):
                self.stop(PREEMPTED)
            self._wait()
        return self._outcomes

    def _wait(self) -> None:
        """Waits for the thread's end, and lets signal handlers run meanwhile; handlers may call it, too."""
        while True:
            ready, _, _ = select.select([self._ended, self._woken], [], [])
            if self._ended in ready:  # at its end the pipe stays readable, for whoever else waits
                return
            with contextlib.suppress(BlockingIOError):  # a handler that waited meanwhile has read it
                os.read(self._woken, 4096)

    def _is_near_its_limit(self) -> bool:
        """Whether a signal may be about the time limit; where there is one, this machine's scheduler sends no other."""
        if self._task.spec.executor != "slurm":
            return self._task.spec.time_min is not None
        return self._ends_at is not None and time.time() > self._ends_at - self._task.spec.signal_delay_s - _TICKS_S

    def stop(self, reason: str) -> None:
        """Asks the agents to stop, from any thread; asked again, it is the later reason that they tell."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the agents with it
            self._loop.call_soon_threadsafe(self._stop, reason)

    def _stop(self, reason: str) -> None:
        self._stopping = reason
        for agent in self._agents:
            agent.stop(reason)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        # Handlers also give trials the default actions back: what a batch script starts in the background
        # inherits SIGINT ignored, and so would they; a handler, unlike "ignore", does not survive exec.
        def on_signal(number: int, frame: FrameType | None) -> None:
            if not self._draining:  # otherwise they know why
                self.stop(self._why(number))
            if number == signal.SIGTERM and not self._draining and slurm_job.is_preempted():
                self._preempted = True
                signal.raise_signal(
                    slurm_job.REQUEUE_SIGNAL
                )  # submitit's: it calls `checkpoint`, and requeues the task

        wakeup = signal.set_wakeup_fd(self._on_signal, warn_on_full_buffer=False)
        before = {number: signal.signal(number, on_signal) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)

    def _why(self, number: int) -> str:
        """What a signal means."""
        mark = SubmissionPaths(self._task.folder).cancelled
        if number == signal.SIGTERM and os.path.exists(mark):  # noqa: PTH110 `Path.exists` may raise, here in a handler
            return CANCELLED
        return f"received {signal.Signals(number).name}"

    def _main(self) -> None:
        try:
            self._outcomes = self._loop.run_until_complete(self._run_agents())
        except BaseException as error:  # noqa: BLE001 carried to the main thread, which raises it
            self._error = error
        finally:
            self._loop.close()
            os.close(self._on_end)

    async def _run_agents(self) -> list[Outcome]:
        task, variable = self._task, variable_of(os.environ)
        own = shares(
            task.spec.agents_per_task,
            gpus=os.environ.get(variable),
            cores=sorted(os.sched_getaffinity(0)),
            variable=variable,
        )
        self._ends_at = slurm_job.ends_at(ask=task.spec.executor == "slurm")
        running = [
            asyncio.create_task(self._run_agent(place, share, count))
            for place, (share, count) in enumerate(zip(own, task.counts(), strict=True))
        ]
        # What happens to one of them, a mistake of ours included, is not to touch the others' runs.
        await asyncio.wait(running)
        return [agent.result() for agent in running]

    async def _run_agent(self, place: int, share: Share, count: int | None) -> Outcome:
        task, paths = self._task, SubmissionPaths(self._task.folder)
        events = EventWriter(paths.events(agent_name(task.index, place)))
        events.write(
            AgentStarted(
                task=task.index,
                host=socket.gethostname(),
                pid=os.getpid(),
                job_id=_job_id(),
                gpus=share.gpus,
                cpus=list(share.cores),
                restarts=task.all_restarts(),
                node_gpus=gpus.node_gpus(share.gpus),
            )
        )
        if count == 0:
            outcome = Outcome(reason="--count was reached before the task was requeued", ok=True, runs=0)
        else:
            agent = self._agent(paths, events, share, count)
            self._agents.append(agent)
            if self._stopping is not None:
                agent.stop(self._stopping)
            work = asyncio.ensure_future(agent.run())
            self._works.append(work)
            outcome = await work
            if outcome.ok and outcome.reason == TIME_LIMIT:
                await asyncio.wait(self._works)  # the others' runs count, too
                if why := cuts.verdict(paths, task.index, count=task.spec.agents):
                    outcome = dataclasses.replace(outcome, reason=why, ok=False)
        events.write(AgentStopped(reason=outcome.reason, ok=outcome.ok, runs=outcome.runs))
        _LOG.info("agent %s ends: %s", agent_name(task.index, place), outcome.reason)
        events.close()
        return outcome

    def _agent(self, paths: SubmissionPaths, events: EventWriter, share: Share, count: int | None) -> Agent:
        task = self._task
        if task.spec.agent == "wandb":
            return StockAgent(
                sweep=task.sweep, endpoint=task.endpoint, paths=paths, spec=task.spec, share=share, count=count
            )
        return SweepAgent(
            sweep=task.sweep,
            endpoint=task.endpoint,
            paths=paths,
            events=events,
            host=socket.gethostname(),
            spec=task.spec,
            share=share,
            count=count,
            ends_at=self._ends_at,
        )


def _job_id() -> str:
    """The scheduler's id of this array task, in the form that `squeue` and `scancel` use."""
    return slurm_job.task_id() or os.environ.get("WANDB_SUBMIT_JOB_ID") or os.environ.get("SLURM_JOB_ID") or ""
