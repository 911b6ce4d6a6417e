"""In a terminal of any width ids, states and devices are whole; what is no terminal gets whole lines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support import Shell, wait_until
from terminal import Terminal

from wandb_submit.executors.local.state import SchedulerFiles, SchedulerState, TaskRow
from wandb_submit.executors.states import TaskState
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.store import record as records
from wandb_submit.store.events import (
    AgentStarted,
    AgentStopped,
    Event,
    EventWriter,
    RunAbandoned,
    RunFinished,
    RunStarted,
)
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.store.record import SubmissionRecord
from wandb_submit.system.files import try_lock

WIDTHS = (60, 80, 200)
GPUS = [f"GPU-8f3c5a10-1b2c-4d3e-9f40-{task:012x}" for task in range(40)]
MIG = "MIG-GPU-8f3c5a10-1b2c-4d3e-9f40-a1b2c3d4e5f6/11/0,MIG-41ad98f2-0a74-5f40-8d4c-ad6a25e4ef10"
NODE = "gpu-node-017.partition-a.cluster.example.org"
LONG = " ".join(f"word{number:03}" for number in range(38))  # 300 characters and more


@dataclass(frozen=True)
class Made:
    """A submission as its agents and its scheduler have written it down."""

    paths: SubmissionPaths
    runs: list[str]


@pytest.fixture
def made(shell: Shell) -> Iterator[Made]:
    """Forty tasks: running, waiting, failed with very many words; on GPUs and a node with long names."""
    paths = records.create_folder(shell.folder / ".wandb-submit", "hp7z3a")
    jobs = tuple(f"hp7z3a_{task}" for task in range(40))
    record = SubmissionRecord(
        id="hp7z3a",
        created=records.now(),
        executor="local",
        sweep=SweepRef(entity="local", project="quickstart", id="30pkm7qi", base_url="http://127.0.0.1:9"),
        endpoint=Endpoint(base_url="http://127.0.0.1:9"),
        workdir=str(shell.folder),
        array="40",
        jobs=jobs,
        resources={},
        runs_left=120,
    )
    records.save(paths, record)
    rows, runs = [], []
    for task, job in enumerate(jobs):
        state = TaskState.FAILED if task == 7 else TaskState.PENDING if task > 20 else TaskState.RUNNING
        rows.append(TaskRow(job=job, state=state, detail="the submission hp7z3b holds a GPU" if task == 30 else ""))
        if state is not TaskState.PENDING:
            runs += write_agent(paths, task)
    files = SchedulerFiles.of(paths.jobs, paths.id)
    files.folder.mkdir()
    SchedulerState(pid=os.getpid(), host=NODE, tasks=rows).save(files)
    with files.lock.open("w") as held:
        assert try_lock(held.fileno())  # the scheduler lives
        yield Made(paths, runs)


def write_agent(paths: SubmissionPaths, task: int) -> list[str]:
    events = EventWriter(paths.events(str(task)))
    gpus = MIG if task == 3 else GPUS[task]
    run, bad = f"run{task:05}", f"bad{task:05}"
    log = str(paths.run_log(run))
    happened: list[Event] = [
        AgentStarted(task=task, host=NODE, pid=9, job_id=f"hp7z3a_{task}", gpus=gpus, cpus=[task]),
        RunStarted(run=run, pid=9, command=["python"], log=log, idle_s=0.1),
    ]
    if task == 7:
        happened += [RunFinished(run=run, exit_code=3, seconds=4.0), RunAbandoned(run=bad, reason=LONG)]
        happened.append(AgentStopped(reason=LONG, ok=False, runs=1))
    for event in happened:
        events.write(event)
    events.close()
    return [run, bad] if task == 7 else [run]


@pytest.mark.parametrize("columns", WIDTHS)
def test_status_and_logs_cut_nothing(made: Made, shell: Shell, columns: int) -> None:
    status = Terminal(shell, "status", columns=columns).lines()
    logs = Terminal(shell, "logs", columns=columns).lines()
    for shown in (status, logs):
        assert max(map(len, shown)) <= columns
        assert not [line for line in shown if "…" in line]
        text = "\n".join(shown)
        for gpu in [*GPUS[:3], *GPUS[4:21], *MIG.split(",")]:
            assert gpu in text
        assert NODE in text
        assert {word for word in LONG.split() if word not in text} == set()
    assert [run for run in made.runs if run not in " ".join(logs)] == []
    assert " 7  failed " in "\n".join(status)
    assert sum(line.split()[1:2] == ["pending"] for line in status) == 19
    assert "the submission hp7z3b holds a GPU" in " ".join(" ".join(status).split())


def test_the_paths_of_logs_are_the_first_to_go(made: Made, shell: Shell) -> None:
    narrow = " ".join(" ".join(Terminal(shell, "logs", columns=80).lines()).split())
    wide = " ".join(Terminal(shell, "logs", columns=700).lines())
    assert "`wandb-submit logs hp7z3a RUN` prints a log; they are in .wandb-submit/hp7z3a/runs" in narrow
    assert "prints a log" not in wide
    for run in made.runs:
        assert f"runs/{run}.log" not in narrow
    assert ".wandb-submit/hp7z3a/runs/run00003.log" in wide


def test_a_long_detail_leaves_the_other_rows_as_they_are(made: Made, shell: Shell) -> None:
    """Short details stay in their rows; a long one begins below its own."""
    lines = Terminal(shell, "status", columns=80).lines()
    at = next(at for at, line in enumerate(lines) if line.startswith("   7 "))
    below = lines[at + 1 : at + 12]
    assert any(line.startswith("    word000 word001") for line in below)
    states = {line.split()[1] for line in lines if line[:4].strip().isdecimal()}
    assert states == {"running", "pending", "failed"}


def test_a_very_narrow_terminal_has_all_words(made: Made, shell: Shell) -> None:
    lines = Terminal(shell, "status", columns=30).lines()
    assert max(map(len, lines)) <= 30
    assert "runs done 2 of 120, 2 failed" in lines
    assert "…" not in "".join(lines)
    assert GPUS[0] in "".join(line.strip() for line in lines)


@pytest.mark.parametrize("command", ["status", "logs"])
def test_what_is_no_terminal_gets_whole_lines(command: str, made: Made, shell: Shell) -> None:
    lines = shell.ok(command, COLUMNS="40").splitlines()
    (long,) = [line for line in lines if LONG in line and line.split()[0] in ("7", "bad00007")]
    assert NODE in long
    assert GPUS[7] in long
    assert [line for line in lines if MIG in line]
    assert all(line == line.rstrip() for line in lines)
    if command == "logs":
        assert len(lines) == 1 + len(made.runs)


def test_the_live_table_fits_the_screen_and_counts_the_rest(made: Made, shell: Shell) -> None:
    terminal = Terminal(shell, "wait", columns=80, lines=24)
    with contextlib.closing(terminal):
        wait_for_words(terminal, "more tasks: ")
        shown = terminal.shown.decode()
        frame = shown[shown.rindex("submission hp7z3a") :]
        assert frame.count("\n") < 24
        assert "failed" in frame  # the one that somebody should look at
        assert "19 pending" in frame
        assert "…" not in frame
        terminal.process.kill()
        terminal.process.wait()


def wait_for_words(terminal: Terminal, words: str) -> None:
    wait_until(lambda: terminal.shows(words), what=words)


def test_a_variable_may_say_how_wide_the_terminal_is(made: Made, shell: Shell) -> None:
    shown = Terminal(shell, "status", columns=80, COLUMNS="120").lines()
    assert 80 < max(map(len, shown)) <= 120
