"""Whether time limits cut runs short again and again, so that none would ever be finished."""

from __future__ import annotations

from pathlib import Path

from wandb_submit.agent.guards import least_failures
from wandb_submit.store.events import AgentStarted, EventReader, RunFinished, RunStarted, sort_key
from wandb_submit.store.halt import SERVER_ASKED, TIME_LIMIT, Halt
from wandb_submit.store.paths import SubmissionPaths

_MOST = 2  # so many starts of a task that finish nothing and end in a cut say that the limit is too short
_ADVICE = "submit again with a longer --time"


def verdict(paths: SubmissionPaths, task: int, *, count: int) -> str | None:
    """Why a task should not be requeued after its time limit; `None` if it should.

    A run that the server stopped, as hyperband does, has come to its end. One that the limit cut short has not,
    whatever it exits with. If it was resumed later, that cut does not count: the run had marked itself as preempting,
    and goes on where it was.

    If the submission has lost as many runs as would be too many failures, and finished none, all its agents are told.

    Args:
        paths: where the events of all agents are.
        task: the task's place in the array.
        count: how many agents there are.
    """
    starts, resumed_at = _read(paths.agents)
    cuts: list[RunFinished] = []
    lost, finished = 0, False
    for (index, _), ends in sorted(starts.items()):
        own = [ended for t, ended in ends if ended.reason == TIME_LIMIT and resumed_at.get(ended.run, 0.0) <= t]
        lost += len(own)
        well = any(ended.reason in (None, SERVER_ASKED) for _, ended in ends)
        finished |= well
        if index == task:
            cuts = [*([] if well else cuts), *own[:1]]
    if len(cuts) < _MOST:
        return None
    if not finished and lost >= least_failures(count):
        reason = f"time limits have cut all {lost} runs of this submission short: {_ADVICE}"
        Halt(reason=reason, ok=False).tell(paths.halt)
    return (
        f"the task's time limit has cut runs short {len(cuts)} times, the last one after {cuts[-1].seconds:.0f} s, and "
        f"none has ended in between: {_ADVICE}"
    )


def _read(agents: Path) -> tuple[dict[tuple[int, int], list[tuple[float, RunFinished]]], dict[str, float]]:
    """The ends of runs with their times, by task and by how often it had been requeued; and when runs were resumed."""
    starts: dict[tuple[int, int], list[tuple[float, RunFinished]]] = {}
    resumed_at: dict[str, float] = {}
    for path in agents.glob("*/events.jsonl"):
        task, start = sort_key(path.parent.name)[0], 0
        for stamped in EventReader(path).read():
            match stamped.event:
                case AgentStarted(restarts=start):
                    pass
                case RunStarted(run=run, resumed=True):
                    resumed_at[run] = max(resumed_at.get(run, 0.0), stamped.t)
                case RunFinished() as ended:
                    starts.setdefault((task, start), []).append((stamped.t, ended))
    return starts, resumed_at
