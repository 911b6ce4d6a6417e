"""When a task's time limit has cut too many runs short."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandb_submit.agent.cuts import verdict
from wandb_submit.store.events import AgentStarted, EventWriter, RunFinished, RunStarted
from wandb_submit.store.halt import PREEMPTED, SERVER_ASKED, TIME_LIMIT, Halt
from wandb_submit.store.paths import SubmissionPaths

_BEGUN = {"task": 0, "host": "n", "pid": 1, "job_id": "7_0", "gpus": None, "cpus": [0]}
_STARTED = {"pid": 2, "command": ["c"], "log": "l", "idle_s": 0.0}


def write(folder: Path, agent: str, story: str) -> None:
    """Writes an agent's events: `2:` is a start with that number of restarts before, `r` a run that is resumed.

    Of its ends `c` is a cut by the limit, `o` one on which it exits with 0, `p` a preemption, `s` a stop by the
    server, `.` one by itself and `x` a failure; the run's name follows each of them.
    """
    events = EventWriter(SubmissionPaths(folder).events(agent))
    ends = {
        "c": (-15, TIME_LIMIT),
        "o": (0, TIME_LIMIT),
        "p": (1, PREEMPTED),
        "s": (255, SERVER_ASKED),
        ".": (0, None),
        "x": (1, None),
    }
    for t, word in enumerate(story.split()):
        if word.endswith(":"):
            events.write(AgentStarted(**_BEGUN, restarts=int(word[:-1])), at=t)
        elif word[0] == "r":
            events.write(RunStarted(run=word[1:], resumed=True, **_STARTED), at=t)
        else:
            code, reason = ends[word[0]]
            events.write(RunFinished(run=word[1:], exit_code=code, seconds=88.2, reason=reason), at=t)
    events.close()


@pytest.mark.parametrize(
    ("stories", "stops"),
    [
        ({"0": "0: cA 1: cB"}, True),
        ({"0": "0: cA 1: cA"}, True),  # one that hung before it began is handed out again
        ({"0": "0: cA"}, False),
        ({"0": "0: .A cB 1: cC"}, True),
        ({"0": "0: cA 1: .B cC"}, False),
        ({"0": "0: cA 1: xB cC"}, False),  # it ended by itself
        ({"0": "0: cA 1: .B cC 2: cD"}, True),
        ({"0": "0: cA 1: oB"}, True),
        ({"0": "0: cA 1: pB 2: cC"}, True),
        ({"0": "0: pA 1: pB 2: pC"}, False),
        ({"0": "0: sA cB 1: sC cD 2: cE"}, True),
        ({"0": "0: sA cB 1: sC cD"}, False),
        ({"0": "0: cA 1: rA cA 2: rA cA"}, False),
        ({"0": "0: cA 1: rA cA 2: cB"}, True),  # it went on once, and then no more
        ({"0": "0: cA 1: cB", "1": "0: xZ xZ xZ xZ rA"}, False),  # another task goes on with it
        ({"0": "0: cA", "0.1": "0: cB"}, False),  # both at once
        ({"0": "0: cA 1: cC", "0.1": "0: cB 1: cD"}, True),
        ({"0": "0: cA 1: cC", "0.1": "0: cB 1: .D"}, False),
        ({"0": "0: cA", "1": "0: cB", "10": "0: cC"}, False),
    ],
)
def test_a_limit_that_cuts_twice_and_lets_none_end_is_too_short(
    stories: dict[str, str], stops: bool, tmp_path: Path
) -> None:
    for agent, story in stories.items():
        write(tmp_path, agent, story)
    why = verdict(SubmissionPaths(tmp_path), 0, count=len(stories))
    assert (why is not None) == stops
    if why:
        assert "short 2 times, the last one after 88 s, and none has ended in between" in why
        assert "--time" in why


@pytest.mark.parametrize(
    ("others", "ends"),
    [("0: cA", True), ("0: .A cB", False), ("0: pA", False)],
)
def test_where_no_run_of_a_submission_has_ended_its_other_tasks_need_not_try(
    others: str, ends: bool, tmp_path: Path
) -> None:
    """As with runs that fail: five of them, or one for each agent."""
    paths = SubmissionPaths(tmp_path)
    write(tmp_path, "0", "0: cC 1: cD")
    for task in range(1, 4):
        write(tmp_path, str(task), others)
    assert verdict(paths, 0, count=4)
    halt = Halt.read(paths.halt)
    assert (halt is not None) == ends
    if halt:
        assert not halt.ok
        assert (
            halt.reason == "time limits have cut all 5 runs of this submission short: submit again with a longer --time"
        )
