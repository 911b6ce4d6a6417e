"""A function as a sweep's run: what `wandb.agent(function=...)` does, in a process per run."""

from __future__ import annotations

import json
import re
import signal
import stat

import pytest
import yaml
from support import Shell

SUBMIT = """
import json, sys
import wandb_submit

{script}

if __name__ == "__main__":
    config = {{"method": "grid", "project": "tests", "metric": {{"name": "loss"}}, "parameters": {parameters}}}
    options = dict(array=1, executor="local", offline=True, env={{"WANDB_AGENT_DISABLE_FLAPPING": "true"}})
    submission = wandb_submit.submit(config, function=train, **{{**options, **{options}}})
    snapshot = submission.wait()
    ends = {{run.id: run.exit_code for run in submission.runs()}}
    print(json.dumps([submission.id, snapshot.record.sweep.path, snapshot.is_well, ends]))
"""


class Done:
    """What came of a submitted function."""

    def __init__(
        self, shell: Shell, script: str, parameters: dict, *, name: str = "submit.py", **options: object
    ) -> None:
        (shell.folder / name).write_text(SUBMIT.format(script=script, parameters=parameters, options=options))
        done = shell.call("python", name)
        assert done.returncode == 0, done.stderr
        self.id, self.sweep, self.is_well, self.ends = json.loads(done.stdout.splitlines()[-1])
        self.shell = shell
        self.folder = shell.submission(self.id)
        self.started = shell.events(self.id, "run_started")

    def logs(self) -> list[str]:
        return [(self.folder / "runs" / f"{run}.log").read_text() for run in self.ends]


CALLED = """
import os
import numpy
import wandb

SCALE = 3
seen = []

class Model:
    def __init__(self, x):
        self.loss = SCALE * x

def train():
    seen.append(os.getpid())
    with wandb.init() as run:
        run.log({"loss": Model(run.config.x).loss})
        run.summary["place"] = [len(seen), os.environ["WANDB_SWEEP_ID"], os.environ["WANDB_RUN_ID"], run.id]
        run.summary["draws"] = [float(numpy.random.rand()), numpy.random.rand() > 2]
"""


def test_a_function_of_main_is_called_for_each_run_in_a_fresh_process(offline_shell: Shell) -> None:
    done = Done(offline_shell, CALLED, {"x": {"values": [1, 2, 3, 4]}}, array=2)
    assert done.is_well
    assert list(done.ends.values()) == [0] * 4
    assert [event["warm"] for event in done.started] == [True] * 4
    assert stat.S_IMODE((done.folder / "function.pkl").stat().st_mode) == 0o600
    assert sorted(row[0][0] for row in offline_shell.histories(done.sweep, "loss").values()) == [3, 6, 9, 12]
    code = (
        "import json, sys, wandb; print(json.dumps({run.id: "
        "[run.state, list(run.summary['place']), list(run.summary['draws'])] "
        "for run in wandb.Api().sweep(sys.argv[1]).runs}))"
    )
    runs = json.loads(offline_shell.wandb_python(code, done.sweep))
    sweep_id = done.sweep.rpartition("/")[2]
    assert {run: (state, place) for run, (state, place, _) in runs.items()} == {
        run: ("finished", [1, sweep_id, run, run]) for run in done.ends
    }
    assert len({draws[0] for _, _, draws in runs.values()}) == 4


ENDS = """
import ctypes, multiprocessing, os, resource, signal, threading, time
import numpy
import wandb

hoard = []

def square(number):
    return number * number

def train():
    end = wandb_config()
    if end == "exception":
        raise ValueError("the sky fell")
    if end == "exit":
        os._exit(7)
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where there is no memory left
    if end == "segfault":
        ctypes.string_at(0)
    if end == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        hoard.append(bytearray(2**31))
    if end == "leak":
        hoard.append(numpy.ones(2**30, dtype=numpy.uint8))
        print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 2**20)
    if end == "after":
        print("hoard", len(hoard), [resident_mb(who) < 150 for who in (os.getpid(), os.getppid())])
    if end in ("fork", "spawn"):
        with multiprocessing.get_context(end).Pool(2) as pool:
            print("squares", pool.map(square, range(5)))
    if end == "threads":
        threads = [threading.Thread(target=print, args=(f"thread {n}",)) for n in range(3)]
        [thread.start() for thread in threads]
    if end == "status":
        raise SystemExit(3)

def resident_mb(pid):
    # The most that it has had: ours, and that of what has started us.
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM:"))

def wandb_config():
    import yaml
    with open(os.environ["WANDB_SWEEP_PARAM_PATH"]) as file:
        return yaml.safe_load(file)["end"]["value"]
"""
KINDS = ["leak", "after", "exception", "exit", "segfault", "killed", "fork", "memory", "spawn", "threads", "status"]


@pytest.mark.parametrize("preload", [None, []], ids=["warm", "cold"])
def test_however_a_run_ends_it_ends_alone_and_its_log_says_how(shell: Shell, preload: list[str] | None) -> None:
    done = Done(shell, ENDS, {"end": {"values": KINDS}}, preload=preload)
    kind_of = {}
    for run in done.ends:
        (path,) = shell.folder.glob(f"wandb/sweep-*/config-{run}.yaml")
        kind_of[yaml.safe_load(path.read_text())["end"]["value"]] = run
    logs = {kind: (done.folder / "runs" / f"{run}.log").read_text() for kind, run in kind_of.items()}
    assert {event["warm"] for event in done.started} == {preload is None}
    assert {kind: done.ends[run] for kind, run in kind_of.items()} == {
        **dict.fromkeys(KINDS, 0),
        "exception": 1,
        "exit": 7,
        "segfault": -signal.SIGSEGV,
        "killed": -signal.SIGKILL,
        "memory": 1,
        "status": 3,
    }
    assert "in train\n" in logs["exception"]
    assert logs["exception"].endswith("ValueError: the sky fell\n")
    assert logs["memory"].endswith("MemoryError\n")
    assert logs["leak"] == "peak True\n"
    assert logs["after"] == "hoard 0 [True, True]\n"
    assert logs["fork"] == logs["spawn"] == "squares [0, 1, 4, 9, 16]\n"
    # Their ends of lines may come in any order: `print` writes them by themselves.
    assert sorted(re.findall(r"thread \d", logs["threads"])) == ["thread 0", "thread 1", "thread 2"]


FORMS = """
import functools, multiprocessing, os, sys
from timing import timed

sys.path.append("later")
import later

def square(number):
    return number * number + later.OFFSET

@timed
def decorated():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, range(3)), "later" in sys.modules, sys.path[0] == os.getcwd())

class Trainer:
    def __init__(self, offset):
        self.offset = offset
    def __call__(self):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(self.add, range(3)))
    def add(self, number):
        return number + self.offset

train = {train}
"""


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("decorated", "[5, 6, 9] True False\nended\n"),
        ("functools.partial(print, square(2))", "9\n"),
        ("lambda: print(square(3))", "14\n"),
        ("Trainer(10)", "[10, 11, 12]\n"),
        ("Trainer(10).__call__", "[10, 11, 12]\n"),
    ],
    ids=["decorated", "partial", "lambda", "object", "method"],
)
@pytest.mark.parametrize("preload", [None, []], ids=["warm", "cold"])
def test_whatever_can_be_called_is_with_what_it_knows_of_main_and_of_folders(
    shell: Shell, train: str, said: str, preload: list[str] | None
) -> None:
    for name, code in {
        "beside/timing": "import functools\ndef timed(function):\n    @functools.wraps(function)\n"
        "    def call():\n        function()\n        print('ended')\n    return call\n",
        "later/later": "OFFSET = 5\n",
    }.items():
        (shell.folder / name).parent.mkdir()
        (shell.folder / f"{name}.py").write_text(code)
    done = Done(shell, FORMS.format(train=train), {"x": {"value": 1}}, name="beside/submit.py", preload=preload)
    assert done.logs() == [said]
    assert [event["warm"] for event in done.started] == [preload is None]


NAMED = """
import pathlib
import wandb_submit

def train():
    print("called")

options = dict(function=train, array=1, executor="local", offline=True)
submission = wandb_submit.submit(pathlib.Path("sweep.yaml"), **options, count=1)
for _ in range(2):
    assert submission.wait().is_well
    print(*[submission.logs(run).strip() for run in submission.runs()])
    submission = wandb_submit.submit(submission.record.sweep.path, **options)
submission.wait()
"""


def test_a_sweep_file_and_a_sweep_that_is_there_take_a_function_whatever_their_program(shell: Shell) -> None:
    config = {"program": "elsewhere.py", "method": "grid", "parameters": {"x": {"values": [1, 2, 3]}}}
    (shell.folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    (shell.folder / "submit.py").write_text(NAMED)
    done = shell.call("python", "submit.py")
    assert done.stdout == "called\ncalled called\n"
    assert re.search(
        r"RefusedError: the sweep \S+ is finished: it hands out no more runs\. To let it go on, ", done.stderr
    )


def test_a_function_that_cannot_travel_is_refused_before_anything_is_made(shell: Shell) -> None:
    script = "import threading\nlock = threading.Lock()\ndef train():\n    lock.acquire()\n"
    (shell.folder / "submit.py").write_text(SUBMIT.format(script=script, parameters={"x": {"value": 1}}, options={}))
    done = shell.call("python", "submit.py")
    assert done.returncode == 1
    assert "the function 'train' refers to something that cannot travel to another process (" in done.stderr
    assert list(shell.folder.glob(".wandb-submit/*/function.pkl")) == []


def test_a_python_that_is_not_there_is_an_error_of_submit(shell: Shell) -> None:
    script = SUBMIT.format(
        script="def train(): ...", parameters={"x": {"values": [1]}}, options={"python": "/no/python"}
    )
    (shell.folder / "submit.py").write_text(script)
    done = shell.call("python", "submit.py")
    assert "ConfigError: --python '/no/python': there is no file /no/python: name the interpreter" in done.stderr
    assert not (shell.folder / ".wandb-submit").exists()
