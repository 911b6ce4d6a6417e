"""Whether a task's time limit cuts its runs short again and again, so that it would never finish one."""

from __future__ import annotations

from pathlib import Path

from wandb_submit.events import AgentStarted, EventReader, RunFinished, RunStarted, sort_key
from wandb_submit.halts import SERVER_ASKED, TIME_LIMIT

_MOST = 2  # so many starts of a task that finish nothing and end in a cut say that the limit is too short


def verdict(agents: Path, task: int) -> str | None:
    """Why a task should not be requeued after its time limit; `None` if it should.

    A run that the server stopped, as hyperband does, has come to its end. The cut of a run that was resumed later does
    not count: the run had marked itself as preempting, and goes on where it was.

    Args:
        agents: the folder of the events of all agents, as any of them may have resumed a run.
        task: the task's place in the array.
    """
    lives: dict[int, list[tuple[float, RunFinished]]] = {}  # the task's runs, by how often it had been requeued
    resumed_at: dict[str, float] = {}
    for path in agents.glob("*/events.jsonl"):
        own, life = sort_key(path.parent.name)[0] == task, 0
        for stamped in EventReader(path).read():
            match stamped.event:
                case AgentStarted(restarts=life):
                    pass
                case RunStarted(run=run, resumed=True):
                    resumed_at[run] = max(resumed_at.get(run, 0.0), stamped.t)
                case RunFinished() as ended if own:
                    lives.setdefault(life, []).append((stamped.t, ended))
    cuts: list[RunFinished] = []
    for _, ends in sorted(lives.items()):
        if any(ended.reason in (None, SERVER_ASKED) or ended.exit_code == 0 for _, ended in ends):
            cuts.clear()
        lost = [ended for t, ended in ends if _is_cut(ended) and resumed_at.get(ended.run, 0.0) <= t]
        cuts += lost[:1]
    if len(cuts) < _MOST:
        return None
    return (
        f"the task's time limit has cut runs short {len(cuts)} times, the last one after {cuts[-1].seconds:.0f} s, and "
        "none has ended in between: submit again with a longer --time"
    )


def _is_cut(ended: RunFinished) -> bool:
    return ended.reason == TIME_LIMIT and ended.exit_code != 0
