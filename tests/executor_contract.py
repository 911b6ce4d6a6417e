"""What every executor does, as tests that each of them has to pass: a subclass says which one, and where."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from support import wait_until

from wandb_submit.agent.task import AgentTask
from wandb_submit.executors.base import Executor, TaskRef
from wandb_submit.executors.catalog import load_executor
from wandb_submit.executors.states import TaskState
from wandb_submit.spec import ArraySpec, SubmissionSpec
from wandb_submit.store.paths import SubmissionPaths

Submit = Callable[..., "Submitted"]


class Submitted:
    """One submission to an executor."""

    def __init__(self, executor: Executor, paths: SubmissionPaths, jobs: Sequence[str]) -> None:
        self.executor = executor
        self.paths = paths
        self.jobs = list(jobs)
        self.refs = [TaskRef(paths=paths, index=index, job=job) for index, job in enumerate(jobs)]

    def states(self) -> list[TaskState]:
        return [status.state for status in self.executor.states(self.refs)]

    def have_ended(self) -> bool:
        return all(state.is_terminal for state in self.states())

    def log(self, task: int) -> str:
        return (self.paths.jobs / f"{self.jobs[task]}_0_log.out").read_text()

    def cancel(self) -> None:
        self.executor.cancel(self.jobs, self.paths)


class ExecutorContract:
    """The tests; tasks are programs of a shell, as no sweep matters here."""

    name: str

    @pytest.fixture
    def executor(self) -> Executor:
        return load_executor(self.name)

    @pytest.fixture
    def folder(self, public_tmp: Path) -> Path:
        """A folder that nodes, too, reach, with a name that a shell would take apart."""
        folder = public_tmp / """it's "my" $HOME; `id` \N{LATIN SMALL LETTER E WITH ACUTE}"""
        folder.mkdir()
        return folder

    @pytest.fixture
    def paths(self, folder: Path) -> SubmissionPaths:
        return self.paths_of(folder, "abc234")

    def paths_of(self, folder: Path, name: str) -> SubmissionPaths:
        paths = SubmissionPaths(folder / name)
        paths.jobs.mkdir(parents=True)
        return paths

    def spec(self, folder: Path, count: int, at_once: int | None = None, **changes: Any) -> SubmissionSpec:
        return SubmissionSpec(
            **{
                "executor": self.name,
                "array": ArraySpec(count=count, parallel=at_once),
                "workdir": folder,
                "time_min": 5,
                "grace_s": 0.0,
                **changes,
            }
        )

    @pytest.fixture
    def submit(self, executor: Executor, folder: Path) -> Iterator[Submit]:
        """Submits one shell program per task; what is left of it at the end is abandoned."""
        submitted: list[Submitted] = []

        def submit(*programs: str, at_once: int | None = None) -> Submitted:
            paths = self.paths_of(folder, f"abc{len(submitted):03}")
            plan = executor.plan(self.spec(folder, len(programs), at_once), paths)
            executor.check(plan)
            tasks = [
                functools.partial(subprocess.run, ["sh", "-c", program], check=True, cwd=folder) for program in programs
            ]
            jobs: list[str] = []
            executor.submit(plan, cast("list[AgentTask]", tasks), paths, jobs.extend)
            submitted.append(Submitted(executor, paths, jobs))
            return submitted[-1]

        yield submit
        for one in submitted:
            with contextlib.suppress(Exception):
                one.executor.abandon(one.paths)

    def test_a_plan_says_everything_and_does_nothing(self, executor: Executor, paths: SubmissionPaths) -> None:
        spec = self.spec(paths.folder, 3, 2)
        plan = executor.plan(spec, paths)
        assert plan.count == 3
        assert plan.render() == executor.plan(spec, paths).render()
        assert plan.resources()["time_min"] == 5
        json.dumps(dict(plan.resources()))
        assert all(isinstance(note, str) for note in plan.notes)
        executor.check(plan)
        assert list(paths.folder.rglob("*")) == [paths.jobs]

    def test_tasks_end_as_their_programs_do_and_their_words_are_in_their_logs(self, submit: Submit) -> None:
        one = submit("echo one", "echo two; exit 3", "echo three")
        assert len(set(one.jobs)) == 3
        wait_until(one.have_ended, what="all tasks have ended")
        assert one.states() == [TaskState.COMPLETED, TaskState.FAILED, TaskState.COMPLETED]
        for task, word in enumerate(("one", "two", "three")):
            assert word in one.log(task).split()

    def test_states_are_told_in_the_order_that_they_are_asked_for(self, submit: Submit, executor: Executor) -> None:
        """Of several submissions in one question, as `status --all` asks."""
        first, second = submit("exit 0", "exit 1"), submit("exit 1")
        wait_until(lambda: first.have_ended() and second.have_ended(), what="all tasks have ended")
        told = executor.states([first.refs[1], second.refs[0], first.refs[0]])
        assert [status.state for status in told] == [TaskState.FAILED, TaskState.FAILED, TaskState.COMPLETED]
        assert executor.states([]) == []

    def test_no_more_tasks_run_at_a_time_than_may(self, submit: Submit, executor: Executor, folder: Path) -> None:
        wait = "touch began-{0}; while [ ! -e go ]; do sleep 0.1; done"
        one = submit(*(wait.format(task) for task in range(3)), at_once=1)
        wait_until((folder / "began-0").exists, what="the first task has begun")
        wait_until(lambda: one.states()[0] is TaskState.RUNNING, what="that is told")
        told = executor.states(one.refs)
        assert [status.state for status in told] == [TaskState.RUNNING, TaskState.PENDING, TaskState.PENDING]
        assert told[0].node
        assert not (folder / "began-1").exists()
        (folder / "go").touch()
        wait_until(one.have_ended, what="all tasks have ended")
        assert one.states() == [TaskState.COMPLETED] * 3

    def test_cancel_ends_what_runs_and_what_waits_and_nothing_else(self, submit: Submit, folder: Path) -> None:
        one = submit("touch began; exec sleep 1000", "exec sleep 1000", at_once=1)
        other = submit("touch other; while [ ! -e go ]; do sleep 0.1; done")
        wait_until(lambda: (folder / "began").exists() and (folder / "other").exists(), what="both have begun")
        one.cancel()
        wait_until(one.have_ended, what="the tasks have ended")
        assert one.states() == [TaskState.CANCELLED] * 2
        one.cancel()  # of what has ended: no error
        assert other.states() == [TaskState.RUNNING]
        (folder / "go").touch()
        wait_until(other.have_ended, what="the other submission's task has ended")
        assert other.states() == [TaskState.COMPLETED]

    def test_cancel_of_one_task_leaves_the_others_alone(self, submit: Submit, folder: Path, executor: Executor) -> None:
        one = submit(*(f"touch began-{task}; while [ ! -e go ]; do sleep 0.1; done" for task in range(3)))
        wait_until(lambda: all((folder / f"began-{task}").exists() for task in range(3)), what="all have begun")
        executor.cancel(one.jobs[1:2], one.paths, whole=False)
        wait_until(lambda: one.states()[1].is_terminal, what="the task has ended")
        assert one.states() == [TaskState.RUNNING, TaskState.CANCELLED, TaskState.RUNNING]
        (folder / "go").touch()
        wait_until(one.have_ended, what="all tasks have ended")
        assert one.states() == [TaskState.COMPLETED, TaskState.CANCELLED, TaskState.COMPLETED]

    def test_what_is_abandoned_leaves_nothing_running(self, submit: Submit, executor: Executor, folder: Path) -> None:
        one = submit("touch began; echo $$ > pid; exec sleep 1000", "exec sleep 1000", at_once=1)
        wait_until((folder / "began").exists, what="the first task has begun")
        executor.abandon(one.paths)
        wait_until(one.have_ended, what="the tasks have ended")
        assert TaskState.COMPLETED not in one.states()
        pid = int((folder / "pid").read_text())
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="its program is dead")
