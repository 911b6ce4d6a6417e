"""Which GPUs the tasks on this machine get: their processes are real, the driver is a fake one or there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, Shell, processes_of, wait_until

# Writes down what it sees, and stays for as long as there is a file to say so.
RECORD = """
import json, os, sys, time
names = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "OMP_NUM_THREADS")
seen = {name: os.environ[name] for name in names if name in os.environ}
place = {**seen, "cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid()}
path = os.path.join(os.environ["PLACES"], "place-" + os.environ["WANDB_RUN_ID"] + ".json")
with open(path + ".new", "w") as file:
    json.dump(place, file)
os.rename(path + ".new", path)
while os.path.exists(os.path.join(os.environ["PLACES"], "stay")):
    time.sleep(0.1)
"""
LOCAL = ("--offline", "--executor", "local")
FAKES = {"PYTHONPATH": str(ROOT / "tests" / "fakes")}  # an NVML that knows of no GPU unless it is told
CUDA, ROCR = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
UUIDS = ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-8a11f937-d72c-4106-c12f-20bd9faed9f7"]


@pytest.fixture
def sweep(offline_shell: Shell) -> str:
    """A sweep of two runs that write down what they see."""
    return offline_shell.sweep(RECORD, parameters={"x": {"values": [1, 2]}})


def places(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("place-*.json")]


def seen(folder: Path, variable: str) -> list[str]:
    return sorted(place[variable] for place in places(folder))


class Machine:
    """A machine with a driver that tells of GPUs, and of a stranger who computes on the first."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "nvml.json"
        self.env = {**FAKES, "FAKE_NVML": str(self._file), "PLACES": str(folder)}
        self.stranger = subprocess.Popen(["sleep", "600"])

    def has(self, *gpus: dict[str, object]) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(gpus))
        draft.replace(self._file)

    def computes(self, *pids: list[int]) -> None:
        """Its GPUs have these processes, each."""
        self.has(*({"uuid": uuid, "compute": own} for uuid, own in zip(UUIDS, pids, strict=True)))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stranger.kill()
    machine.stranger.wait()


def test_gpus_limits_the_pool_further_than_the_variable_does(sweep: str, offline_shell: Shell, tmp_path: Path) -> None:
    options = (*LOCAL, "--gpu-ids", "1-2", "--gpus-per-task", "1")
    env = {CUDA: "0,1,2,3", "PLACES": str(tmp_path), **FAKES}
    assert "2 array tasks" in offline_shell.ok(sweep, *options, "--dry-run", **env)
    offline_shell.ok(sweep, *options, "--array", "2", "--count", "1", **env)
    assert seen(tmp_path, CUDA) == ["1", "2"]
    done = offline_shell.run(sweep, *LOCAL, "--gpu-ids", "0,4", "--gpus-per-task", "1", **env)
    assert done.returncode == 6
    assert "--gpu-ids 4: there is no GPU of this name" in done.stderr
    assert "the GPUs here are 0, 1, 2, 3 (within CUDA_VISIBLE_DEVICES='0,1,2,3')" in done.stderr
    done = offline_shell.run(sweep, *options, "--gpus-per-task", "3", **env)
    assert done.returncode == 6
    assert "this machine has: 2 GPUs (CUDA_VISIBLE_DEVICES='0,1,2,3', --gpu-ids 1,2)" in done.stderr


@pytest.mark.parametrize(
    ("options", "runs_on", "says"),
    [
        ((), ["0", "1", "2", "3"], "each task gets one GPU (0: none)"),
        (("--gpu-ids", "1-2"), ["1", "2"], "each task gets one GPU (0: none)"),
        (("--array", "1", "--agents-per-task", "2"), ["0", "0"], "shared by its 2 agents (2: one for each agent)"),
        (("--template", "scratch-dirs", "--array", "2"), ["0", "1"], "each task gets one GPU"),
        (("--gpus-per-task", "0", "--array", "2"), ["", ""], None),
        (("--template", "cpu", "--cpus-per-task", "1", "--array", "2"), ["", ""], None),
    ],
)
def test_without_a_number_each_task_has_one_gpu(
    options: tuple[str, ...], runs_on: list[str], says: str | None, offline_shell: Shell, tmp_path: Path
) -> None:
    """Also where there are fewer cores than GPUs; tasks then share the cores."""
    core = min(os.sched_getaffinity(0))
    person = Shell(folder=offline_shell.folder, env=offline_shell.env, prefix=("taskset", "--cpu-list", str(core)))
    sweep = person.sweep(RECORD, name="default", parameters={"x": {"values": list(range(len(runs_on)))}})
    done = person.run(sweep, *LOCAL, *options, "--count", "1", **{CUDA: "0,1,2,3", "PLACES": str(tmp_path), **FAKES})
    assert done.returncode == 0, done.stderr
    assert seen(tmp_path, CUDA) == runs_on
    assert {core for place in places(tmp_path) for core in place["cores"]} == {core}
    assert ("--gpus-per-task was not given" in done.stderr) == (says is not None)
    assert says is None or says in done.stderr


@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        ((), 4),
        (("--gpus-per-task", "2"), 2),
        (("--cpus-per-task", "1"), 1),
        (("--gpus-per-task", "0"), 1),
        (("--gpu-ids", "0"), 1),
    ],
)
def test_the_default_array_is_what_has_devices_at_once(
    options: tuple[str, ...], tasks: int, offline_shell: Shell
) -> None:
    core = str(min(os.sched_getaffinity(0)))
    person = Shell(folder=offline_shell.folder, env=offline_shell.env, prefix=("taskset", "--cpu-list", core))
    sweep = person.sweep("pass", name="many", parameters={"x": {"values": list(range(9))}})
    shown = person.ok(sweep, *LOCAL, *options, "--dry-run", **{CUDA: "0,1,2,3", **FAKES})
    assert shown.startswith(f"{tasks} array task")
    assert f"{tasks} at a time" in shown


def test_without_gpus_none_is_asked_for_and_none_is_spoken_of(sweep: str, offline_shell: Shell, tmp_path: Path) -> None:
    for hidden in ({}, {CUDA: ""}):
        done = offline_shell.run(sweep, *LOCAL, "--dry-run", **FAKES, **hidden)
        assert done.returncode == 0
        assert "GPU" not in done.stderr
        assert "as they are" in done.stdout


def test_a_gpu_that_a_stranger_computes_on_is_left_to_him_until_he_ends(
    sweep: str, offline_shell: Shell, machine: Machine, tmp_path: Path
) -> None:
    machine.computes([machine.stranger.pid], [])
    (tmp_path / "stay").touch()
    options = (sweep, *LOCAL, "--array", "2", "--gpus-per-task", "1", "--count", "1")
    done = offline_shell.run(*options, "--detach", "--json", **machine.env)
    assert done.returncode == 0, done.stderr
    who = f"sleep (process {machine.stranger.pid} of "
    assert f"note: GPU 0 is passed over while {who}" in done.stderr
    assert "1 of the 2 tasks run at a time" in done.stderr
    submission = json.loads(done.stdout)["id"]

    (first,) = wait_until(lambda: places(tmp_path), what="a run has begun")
    assert first[CUDA] == "1"
    waits = wait_until(
        lambda: [task for task in offline_shell.json("status", submission)["tasks"] if task["state"] == "pending"],
        what="the other task waits",
    )
    assert waits[0]["detail"].startswith(f"waits for 1 GPU (0 of 2 free); GPU 0 is busy with {who}")

    # What our own tasks compute is no stranger's.
    machine.computes([machine.stranger.pid], [first["pid"]])
    other = offline_shell.run(*options, "--dry-run", **machine.env)
    assert "GPU 0 is passed over" in other.stderr
    assert "GPU 1 is passed over" not in other.stderr

    machine.computes([], [first["pid"]])
    wait_until(lambda: len(places(tmp_path)) == 2, what="the other task has the GPU")
    assert seen(tmp_path, CUDA) == ["0", "1"]
    (tmp_path / "stay").unlink()
    offline_shell.ok("wait", submission)


def test_busy_gpus_are_taken_where_that_is_asked_for(
    sweep: str, offline_shell: Shell, machine: Machine, tmp_path: Path
) -> None:
    machine.computes([machine.stranger.pid], [machine.stranger.pid])
    options = (sweep, *LOCAL, "--array", "2", "--gpus-per-task", "1", "--count", "1")
    done = offline_shell.run(*options, "--include-busy", **machine.env)
    assert done.returncode == 0, done.stderr
    assert "passed over" not in done.stderr
    assert len(places(tmp_path)) == 2
    shown = offline_shell.ok(*options, "--dry-run", **machine.env)
    assert "2 GPUs, 2 of them busy), 0 at a time" in shown
    examined = offline_shell.run("doctor", **machine.env).stdout
    assert f"0 (NVIDIA A100), busy with sleep (process {machine.stranger.pid} of " in examined


def test_a_gpu_in_mig_mode_gives_each_task_an_instance(
    sweep: str, offline_shell: Shell, machine: Machine, tmp_path: Path
) -> None:
    instances = [{"uuid": f"MIG-b7c38f3{number}", "gi": number, "ci": 0, "compute": []} for number in (1, 2)]
    machine.has({"uuid": UUIDS[0], "mig": instances})
    one = (sweep, *LOCAL, "--array", "2", "--count", "1", "--gpus-per-task", "1")
    done = offline_shell.run(*one, **machine.env)
    assert done.returncode == 0, done.stderr
    assert "CUDA lets a process use one MIG instance" not in done.stderr
    assert seen(tmp_path, CUDA) == ["MIG-b7c38f31", "MIG-b7c38f32"]
    done = offline_shell.run(*one, "--gpus-per-task", "2", "--dry-run", **machine.env)
    assert "--agents-per-task 2, gives each agent one" in done.stderr
    done = offline_shell.run(*one, "--gpus-per-task", "2", "--agents-per-task", "2", "--dry-run", **machine.env)
    assert "CUDA lets a process use one MIG instance" not in done.stderr


@pytest.mark.parametrize(
    ("options", "seen_by_runs"),
    [
        (("--array", "2", "--gpus-per-task", "1"), ["2", "3"]),
        (("--array", "1", "--gpus-per-task", "2", "--agents-per-task", "2"), ["2", "3"]),
        (("--array", "2", "--gpus-per-task", "0"), ["", ""]),
    ],
)
def test_on_amds_gpus_one_variable_is_set(
    options: tuple[str, ...], seen_by_runs: list[str], sweep: str, offline_shell: Shell, tmp_path: Path
) -> None:
    left_over = {"HIP_VISIBLE_DEVICES": "1,2", "GPU_DEVICE_ORDINAL": "0"}
    answer = offline_shell.json(
        *(sweep, *LOCAL, "--count", "1", *options), **{ROCR: "0,2,3", "PLACES": str(tmp_path)}, **left_over, **FAKES
    )
    assert answer["ok"], answer
    assert seen(tmp_path, ROCR) == seen_by_runs
    assert not {CUDA, *left_over} & {name for place in places(tmp_path) for name in place}


def test_agents_that_share_a_task_split_its_cores_and_threads(sweep: str, offline_shell: Shell, tmp_path: Path) -> None:
    options = ("--array", "1", "--cpus-per-task", "2", "--agents-per-task", "2", "--count", "1")
    offline_shell.ok(sweep, *LOCAL, *options, PLACES=str(tmp_path))
    one, two = places(tmp_path)
    assert len(one["cores"]) == len(two["cores"]) == 1
    assert one["cores"] != two["cores"]
    assert seen(tmp_path, "OMP_NUM_THREADS") == ["1", "1"]


def test_a_task_finds_out_that_setup_has_changed_amds_variable(
    sweep: str, offline_shell: Shell, tmp_path: Path
) -> None:
    options = ("--array", "1", "--gpus-per-task", "1", "--setup", f"export {ROCR}=0")
    done = offline_shell.run(sweep, *LOCAL, *options, **{ROCR: "3", "PLACES": str(tmp_path)}, **FAKES)
    assert done.returncode == 1
    assert f"{ROCR} is '0', but the local executor gave it 3" in done.stdout + done.stderr


# A scheduler that starts with this folder on its path looks for what nobody tells once an hour.
NO_CLOCK = """
import sys
if "wandb_submit.executors.local.keeper" in sys.orig_argv:
    from wandb_submit.executors.local import closings
    closings._CLOCK_S = 3600.0
"""


class Person:
    """Submits runs on GPU 0, which stay as long as a folder of theirs says so."""

    def __init__(self, shell: Shell, folder: Path, sweep: str) -> None:
        (folder / "no-clock").mkdir()
        (folder / "no-clock" / "sitecustomize.py").write_text(NO_CLOCK)
        self._shell, self._folder, self._sweep = shell, folder, sweep

    def submit(self, name: str, *, stays: bool) -> str:
        places = self._folder / name
        places.mkdir()
        if stays:
            (places / "stay").touch()
        env = {"PLACES": str(places), CUDA: "0", "PYTHONPATH": f"{self._folder / 'no-clock'}:{FAKES['PYTHONPATH']}"}
        options = (*LOCAL, "--array", "1", "--count", "1", "--gpus-per-task", "1", "--detach")
        return str(self._shell.json(self._sweep, *options, **env)["id"])

    def runs(self, name: str) -> list[dict]:
        return places(self._folder / name)

    def leave(self, name: str) -> None:
        (self._folder / name / "stay").unlink()

    def detail(self, submission: str) -> str:
        (task,) = self._shell.json("status", submission)["tasks"]
        return str(task["detail"])


@pytest.fixture
def person(offline_shell: Shell, tmp_path: Path) -> Person:
    sweep = offline_shell.sweep(RECORD, parameters={"x": {"values": [1, 2, 3]}})
    return Person(offline_shell, tmp_path, sweep)


def test_submissions_that_wait_for_a_gpu_hear_when_it_is_freed(person: Person, offline_shell: Shell) -> None:
    first = person.submit("first", stays=True)
    wait_until(lambda: person.runs("first"), what="the first has begun")
    second = person.submit("second", stays=True)
    wait_until(
        lambda: person.detail(second) == f"waits for 1 GPU (0 of 1 free; held by submission {first})", what="it waits"
    )
    third = person.submit("third", stays=False)
    behind = f"waits for 1 GPU, behind submission {second} that came earlier"
    wait_until(lambda: person.detail(third) == behind, what="the third waits behind it")
    person.leave("first")
    wait_until(lambda: person.runs("second"), what="the second has begun")
    assert person.runs("third") == []
    person.leave("second")
    wait_until(lambda: person.runs("third"), what="the third has begun")
    for submission in (first, second, third):
        offline_shell.ok("wait", submission)


def test_a_holder_and_one_in_line_that_are_killed_are_heard_of(person: Person, offline_shell: Shell) -> None:
    first = person.submit("first", stays=True)
    wait_until(lambda: person.runs("first"), what="the first has begun")
    second = person.submit("second", stays=True)
    wait_until(lambda: person.detail(second).startswith("waits for"), what="the second waits")
    third = person.submit("third", stays=False)
    wait_until(lambda: "behind" in person.detail(third), what="the third waits behind it")
    for submission in (second, first):  # with all that would clean up after it
        lost = processes_of(offline_shell.queue(submission))
        assert lost
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in lost:
                os.kill(pid, number)
    wait_until(lambda: person.runs("third"), what="the third has begun")
    assert person.runs("second") == []
    offline_shell.ok("wait", third)
