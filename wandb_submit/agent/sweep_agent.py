"""One sweep agent: register, heartbeat, run what the server hands out, until there is a reason to leave."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import time
from typing import TypeVar

from wandb_submit.agent.diary import Diary
from wandb_submit.agent.guards import FailureGuard, from_environment, submission_verdict
from wandb_submit.agent.outcome import Outcome
from wandb_submit.agent.pace import Pace
from wandb_submit.agent.patience import LAST_ANSWER_S, Patience
from wandb_submit.agent.protocol import Command, SweepClient, SweepEndedError
from wandb_submit.agent.runs.oom import oom_kills
from wandb_submit.agent.runs.starter import Starter
from wandb_submit.agent.runs.trial import Trial
from wandb_submit.agent.runs.zygote import PreloadError
from wandb_submit.agent.shares import Share
from wandb_submit.agent.task_clock import TaskClock
from wandb_submit.errors import ConfigError, WandbSubmitError
from wandb_submit.spec import Endpoint, SubmissionSpec, SweepRef
from wandb_submit.store.events import (
    AgentRegistered,
    ColdStarts,
    EventWriter,
    RunAbandoned,
    RunFinished,
    RunStarted,
)
from wandb_submit.store.halt import SERVER_ASKED, Halt
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.text import exit_words

KILL_DELAY_S = 30.0  # the stock agent's, as is the variable WANDB_AGENT_KILL_DELAY
_QUESTION_S = 10.0  # for the server to say why a run ended
_OVER = "the sweep is over"
# What keeps a program from being executed, and would keep the next run's.
_NO_PROGRAM = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC)

_LOG = logging.getLogger("wandb_submit.agent")
_T = TypeVar("_T")


class SweepAgent:
    """One agent of a sweep, on one event loop.

    It holds no device itself. A run has the devices of the process that this loop runs in, or the agent's `share` of
    them where a task has several agents. `stop` may be called from a signal handler of the same loop, everything else
    is the loop's own.
    """

    def __init__(
        self,
        *,
        sweep: SweepRef,
        endpoint: Endpoint,
        paths: SubmissionPaths,
        events: EventWriter,
        host: str,
        spec: SubmissionSpec,
        share: Share,
        count: int | None,
        ends_at: float | None,
        pace: Pace | None = None,
    ) -> None:
        self._sweep = sweep
        self._paths = paths
        self._diary = Diary(events)
        self._host = host
        self._spec = spec
        self._count = count
        self._clock = TaskClock.of(spec, ends_at, paths)
        self._pace = pace or Pace()
        self._client = SweepClient(endpoint, device=share.device(), timeout_s=self._pace.answer_s)
        self._guard = FailureGuard()
        self._starter = Starter(
            sweep=sweep,
            endpoint=endpoint,
            paths=paths,
            spec=spec,
            share=share,
            on_cold=lambda reason: self._diary.write(ColdStarts(reason=reason)),
        )
        self._kill_delay_s = from_environment("WANDB_AGENT_KILL_DELAY", KILL_DELAY_S)
        self._trials: dict[str, Trial] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        # Futures, not events: to wait for one takes no task, and there are fewer steps between two runs.
        self._wake = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.get_running_loop().create_future()
        self._patience = Patience(self._stopped, self._pace, self._diary)
        self._stopping: str | None = None
        self._agent_id: str | None = None
        self._cut_short: set[str] = set()
        self._leaving: Outcome | None = None
        self._idle_since = time.monotonic()

    def stop(self, reason: str) -> None:
        """Takes no new run and ends the running ones.

        Called again it changes the reason alone: Slurm repeats its signals, and a trial has its grace all the same.
        """
        if self._stopping is not None:
            for trial in self._trials.values():
                trial.stop_reason = reason if trial.stop_reason == self._stopping else trial.stop_reason
            self._stopping = reason
            return
        self._stopping = reason
        _LOG.info("stopping: %s", reason)
        for trial in self._trials.values():
            trial.stop(reason, kill_after_s=self._spec.grace_s)
        self._stopped.set_result(None)
        self._wake_up()

    async def run(self) -> Outcome:
        """Runs the agent to its end, whatever the server answers."""
        try:
            at_once = self._spec.array.at_once * self._spec.agents_per_task
            await self._patience.unless_stopped(asyncio.sleep(self._pace.before_registering_s(at_once)))
            info = await self._patience.answered(lambda: self._client.sweep(self._sweep))
            if info is not None:
                await self._patience.unless_stopped(self._starter.warm_up(info))
            agent_id = await self._patience.answered(lambda: self._client.register(self._sweep, self._host))
            if agent_id is not None:
                self._agent_id = agent_id
                self._diary.write(AgentRegistered(agent_id=agent_id))
                _LOG.info("registered with sweep %s as agent %s", self._sweep.path, agent_id)
                self._clock.begins()
                await self._work(agent_id)
        except SweepEndedError:
            self._leave_for_all(_OVER, ok=True)
        except PreloadError as error:
            self._leave_for_all(str(error), ok=False)
        except WandbSubmitError as error:
            self._leave(str(error), ok=False)
        finally:
            await self._end_trials()
            self._diary.write_down()
            await self._starter.close()
            await self._say_goodbye()
            await self._client.close()
        left = self._leaving or Outcome(reason=self._stopping or "stopped", ok=True, runs=0)
        return dataclasses.replace(left, runs=self._guard.finished)

    async def _work(self, agent_id: str) -> None:
        while self._stopping is None and not (self._leaving and not self._trials):
            self._wake = asyncio.get_running_loop().create_future()
            if not self._trials and self._takes_no_more():
                return
            try:
                orders = await self._patience.answered(lambda: self._client.heartbeat(agent_id, tuple(self._trials)))
            except WandbSubmitError:
                # What runs may end in peace, as with the stock agent; only then it is our error, too.
                await self._until_runs_end()
                raise
            for order in orders or ():
                await self._obey(order)
            if self._stopping is None and not self._leaving:
                await self._pause(self._pace.until_heartbeat_s(at_work=bool(self._trials)))
            elif self._trials:
                await self._pause(self._pace.heartbeat_s)

    def _takes_no_more(self) -> bool:
        """Whether another run would be one too many; then it leaves."""
        if halt := Halt.read(self._paths.halt):
            self._leave(halt.reason, ok=halt.ok)
        elif too_late := self._clock.too_late():
            self._leave(too_late, ok=True, requeue=True)
        return self._leaving is not None

    async def _until_runs_end(self) -> None:
        """Waits for the running trials; a stop cuts it short."""
        while self._watchers and self._stopping is None:
            self._wake = asyncio.get_running_loop().create_future()
            await self._pause(self._pace.heartbeat_s)

    async def _pause(self, seconds: float) -> None:
        """Waits until a run ends, somebody stops us, or the time is up."""
        await asyncio.wait({self._wake}, timeout=seconds)

    def _wake_up(self) -> None:
        if not self._wake.done():
            self._wake.set_result(None)

    async def _obey(self, order: Command) -> None:
        match order.type:
            case "run" | "resume" if order.run_id:
                await self._start(order, order.run_id)
            case "stop":
                if trial := self._trials.get(order.run_id or ""):
                    trial.stop(SERVER_ASKED, kill_after_s=self._kill_delay_s)
            case "exit":
                self._leave_for_all(_OVER, ok=True)
                for trial in self._trials.values():
                    trial.stop(_OVER, kill_after_s=self._kill_delay_s)
            case unknown:
                _LOG.warning("the server sent an order that this agent does not know: %s", unknown)

    async def _start(self, order: Command, run_id: str) -> None:
        """Starts a run; one that cannot be started counts as failed."""
        idle_s = round(time.monotonic() - self._idle_since, 3)
        try:
            if self._stopping is not None:
                self._diary.write(RunAbandoned(run=run_id, reason=self._stopping, failed=False))
                self._cut_short.add(run_id)
                return
            prepared = self._starter.prepare(order, run_id, self._client.login)
            trial = await self._starter.start(prepared)
        except (OSError, WandbSubmitError) as error:
            self._diary.write(RunAbandoned(run=run_id, reason=str(error)))
            _LOG.exception("run %s cannot be started: %s", run_id, error)
            # A setting or a folder that is wrong would keep the next run's from being started, too.
            if isinstance(error, ConfigError) or (isinstance(error, OSError) and error.errno in _NO_PROGRAM):
                self._leave(f"run {run_id} cannot be started: {error}", ok=False)
            self._judge(failed=True)
            return
        self._trials[run_id] = trial
        self._diary.note(
            RunStarted(
                run=run_id,
                pid=trial.pid,
                command=list(prepared.argv),
                log=str(prepared.log),
                idle_s=idle_s,
                resumed=order.type == "resume",
                warm=trial.warm,
            ),
            f"run {run_id} started (pid {trial.pid})",
        )
        watcher = asyncio.create_task(self._watch(trial))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, trial: Trial) -> None:
        """Waits for a run's end, notes it, and wakes the loop."""
        started, kills_before = time.monotonic(), oom_kills()
        exit_code = await trial.wait()
        ended_at, self._idle_since = time.time(), time.monotonic()
        reason = trial.stop_reason
        trial.kill()  # whatever it left behind in its process group
        out_of_memory = exit_code != 0 and reason is None and (trial.out_of_memory or oom_kills() > kills_before)
        if exit_code != 0 and reason is None and not out_of_memory:
            reason = await self._why_stopped(trial.run_id)
        ended = RunFinished(
            run=trial.run_id,
            exit_code=exit_code,
            seconds=round(self._idle_since - started, 3),
            reason=reason,
            out_of_memory=out_of_memory,
        )
        if reason is None:
            self._clock.saw_run(ended.seconds)
        else:
            self._cut_short.add(trial.run_id)
        del self._trials[trial.run_id]
        words = exit_words(exit_code, reason, out_of_memory=out_of_memory, seconds=ended.seconds)
        self._diary.note(ended, f"run {trial.run_id} {words}", at=ended_at)
        if ended.failed:
            self._diary.write_down()  # the verdict on all agents' failures reads it
        self._judge(failed=ended.failed, stopped=reason is not None)
        self._wake_up()

    async def _why_stopped(self, run_id: str) -> str | None:
        """Asks the server once whether it stopped a run that seems to have failed; `None` if not, or it cannot say.

        The client in the run often obeys a stop before this agent hears of it. The program then ends by SIGINT, or
        with whatever status it chooses after a KeyboardInterrupt.
        """
        question = self._client.stop_requested(self._sweep, run_id)
        try:
            stopped = await self._patience.unless_stopped(asyncio.wait_for(question, _QUESTION_S))
        except (WandbSubmitError, asyncio.TimeoutError) as error:
            _LOG.info("the server does not say whether it stopped run %s: %s", run_id, error)
            return None
        return SERVER_ASKED if stopped else None

    def _judge(self, *, failed: bool, stopped: bool = False) -> None:
        verdict = self._guard.record(failed=failed, stopped=stopped)
        if failed and not self._guard.has_succeeded:
            common = submission_verdict(self._paths.agents, count=self._spec.agents)
            if common:
                self._leave_for_all(common, ok=False)
        if verdict:
            self._leave(verdict, ok=False)
        elif self._count is not None and self._guard.finished >= self._count:
            self._leave(f"--count {self._spec.count} reached", ok=True)

    def _leave(self, reason: str, *, ok: bool, requeue: bool = False) -> None:
        if self._leaving is None:
            self._leaving = Outcome(reason=reason, ok=ok, runs=self._guard.finished, requeue=requeue)

    def _leave_for_all(self, reason: str, *, ok: bool) -> None:
        """Leaves for a reason that holds for every agent of the submission: all of them name the first one's."""
        halt = Halt(reason=reason, ok=ok)
        first = halt.tell(self._paths.halt)
        halt = halt if halt.ok or first.ok else first
        self._leave(halt.reason, ok=halt.ok)

    async def _say_goodbye(self) -> None:
        """Lets the server know that nothing of this agent goes on, if it can be told quickly."""
        if self._agent_id is None:
            return
        try:
            await asyncio.wait_for(self._client.leave(self._agent_id, self._cut_short), LAST_ANSWER_S)
        except (WandbSubmitError, asyncio.TimeoutError) as error:
            _LOG.info("could not say goodbye to the server: %s", error)

    async def _end_trials(self) -> None:
        """Ends what still runs: the gentlest signal first, SIGKILL after the grace."""
        if not self._watchers:
            return
        for trial in self._trials.values():
            trial.stop(self._stopping or "the agent ended", kill_after_s=self._spec.grace_s)
        _, late = await asyncio.wait(self._watchers, timeout=self._spec.grace_s)
        for trial in self._trials.values():
            trial.kill()
        if late:
            await asyncio.wait(late)
