"""On a machine with NVIDIA's driver and GPUs (`make gpu`): programs that compute get the GPUs that are on record."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from slurm.bed import GPU1, environment
from support import Shell, alive, overlapping, wait_until, with_torch

COMPUTE = Path(__file__).with_name("compute.py")
LOCAL = ("--offline", "--executor", "local", "--gpus-per-task", "1")


@pytest.fixture(autouse=True)
def uuids() -> Iterator[list[str]]:
    """This machine's GPUs, which nobody may be computing on."""
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    assert not any(computing(handle) for handle in handles), "somebody computes here: the tests need the GPUs"
    yield [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    wait_until(lambda: not any(map(computing, handles)), what="nothing that a test has started computes any more")
    pynvml.nvmlShutdown()


def computing(handle: Any) -> set[int]:
    return {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}


def compute_sweep(shell: Shell, runs: int) -> str:
    return shell.sweep(COMPUTE.read_text(), parameters={"x": {"values": list(range(runs))}})


def seen(folder: Path) -> list[dict[str, Any]]:
    """What the runs have written down of themselves."""
    return [json.loads(path.read_text()) for path in folder.glob("seen-*.json")]


def check(folder: Path, runs: int, uuids: list[str]) -> None:
    """Each run had one GPU, and each GPU one run at a time."""
    found = seen(folder)
    assert len(found) == runs
    assert all(len(one["uuids"]) == 1 and one["uuids"][0] in uuids for one in found), found
    for gpu in uuids:
        assert not overlapping([tuple(one["span"]) for one in found if one["uuids"] == [gpu]])


@pytest.fixture
def stranger(shell: Shell) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who computes on the first GPU, and has not asked us for it."""
    folder = shell.folder / "elsewhere"
    folder.mkdir()
    (folder / "stay").touch()
    process = subprocess.Popen([sys.executable, COMPUTE], cwd=folder, env={**shell.env, "CUDA_VISIBLE_DEVICES": "0"})
    wait_until(lambda: seen(folder), what="the stranger computes")
    yield process
    process.kill()
    process.wait()


def test_each_task_computes_on_the_gpu_that_is_on_record(shell: Shell, uuids: list[str]) -> None:
    sweep = compute_sweep(shell, 2 * len(uuids) + 1)
    answer = shell.json(sweep, *LOCAL, "--array", str(len(uuids) + 1))
    assert answer["ok"], answer
    check(shell.folder, 2 * len(uuids) + 1, uuids)
    by_pid = {one["pid"]: one["uuids"] for one in seen(shell.folder)}
    tokens = {event["agent"]: event["gpus"] for event in shell.events(answer["id"], "agent_started")}
    for event in shell.events(answer["id"], "run_started"):
        assert by_pid[event["pid"]] == [uuids[int(tokens[event["agent"]])]]


def test_a_gpu_is_known_by_its_uuid_and_by_how_that_begins(shell: Shell, uuids: list[str]) -> None:
    sweep = compute_sweep(shell, 1)
    for name in (uuids[-1], uuids[-1][:12], str(len(uuids) - 1)):
        shell.ok(sweep, *LOCAL, "--array", "1", CUDA_VISIBLE_DEVICES=name)
        (found,) = seen(shell.folder)
        assert found["uuids"] == [uuids[-1]]
        for path in shell.folder.glob("seen-*.json"):
            path.unlink()


def test_who_asks_for_no_gpu_sees_none(shell: Shell) -> None:
    shell.ok(compute_sweep(shell, 1), "--offline", "--executor", "local", "--array", "1", "--gpus-per-task", "0")
    assert [one["uuids"] for one in seen(shell.folder)] == [[]]


def test_two_submissions_at_once_share_no_gpu(shell: Shell, uuids: list[str]) -> None:
    shell.ok("server", "start")
    sweep = compute_sweep(shell, 4 * len(uuids))
    options = (*LOCAL, "--array", str(len(uuids)), "--count", "2")
    both = [shell.start(sweep, *options) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    # Each has made a sweep of its own, of whose runs each agent takes two.
    check(shell.folder, 4 * len(uuids), uuids)


def test_a_strangers_gpu_is_left_to_him_until_he_ends(
    shell: Shell, uuids: list[str], stranger: subprocess.Popen[bytes]
) -> None:
    sweep = compute_sweep(shell, 1)
    who = f"(process {stranger.pid} of "
    assert who in shell.run("doctor", "--executor", "local").stdout
    options = (sweep, *LOCAL, "--gpu-ids", "0", "--array", "1")
    shell.ok(*options, "--include-busy")
    assert len(seen(shell.folder)) == 1
    submitted = shell.run(*options, "--detach", "--json")
    assert submitted.returncode == 0, submitted.stderr
    assert "note: GPU 0 is passed over while " in submitted.stderr
    submission = json.loads(submitted.stdout)["id"]
    waits = functools.partial(shell.json, "status", submission)
    wait_until(lambda: who in waits()["tasks"][0]["detail"], what="the task says for whom it waits")
    assert waits()["tasks"][0]["state"] == "pending"
    stranger.kill()
    shell.ok("wait", submission)
    assert len(seen(shell.folder)) == 2


def test_a_killed_scheduler_leaves_nothing_on_the_gpu(shell: Shell, uuids: list[str]) -> None:
    sweep = compute_sweep(shell, 1)
    (shell.folder / "stay").touch()
    submission = shell.json(sweep, *LOCAL, "--array", "1", "--detach")["id"]
    (run,) = wait_until(lambda: seen(shell.folder), what="a run computes")
    state = json.loads((shell.queue(submission) / "state.json").read_text())
    os.kill(state["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(run["pid"]), what="the run has ended with its scheduler")
    (shell.folder / "stay").unlink()
    shell.ok(compute_sweep(shell, 1), *LOCAL, "--array", "1", "--gpu-ids", uuids[0])
    assert {"uuids": [uuids[0]]}.items() <= seen(shell.folder)[-1].items()


TRAIN = """
import json, os, sys
warm = "torch" in sys.modules
import torch, wandb
settings = wandb.Settings(x_stats_sampling_interval=0.5)
with wandb.init(settings=settings) as run:
    weight = torch.zeros(512, 512, device="cuda", requires_grad=True)
    target = torch.randn(512, 512, device="cuda")
    optimizer = torch.optim.Adam([weight], lr=run.config["lr"])
    for step in range(400):
        optimizer.zero_grad()
        loss = ((weight @ target - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            run.log({"loss": loss.item()})
            torch.cuda._sleep(400_000_000)
    run.summary.update({"warm": warm, "cuda": torch.cuda.is_initialized(), "gpus": torch.cuda.device_count()})
"""
READ = """
import json, sys, wandb
for run in wandb.Api().sweep(sys.argv[1]).runs:
    system = [key for row in run.history(stream="system", pandas=False) for key in row]
    print(json.dumps({**run.summary, "state": run.state, "system": sorted({*system})}, default=dict))
"""


@pytest.mark.parametrize("warm", [(), ("--preload", "torch,wandb")], ids=["cold", "warm"])
def test_torch_trains_and_the_gpus_metrics_arrive(shell: Shell, warm: tuple[str, ...]) -> None:
    shell = with_torch(shell)
    sweep = shell.sweep(TRAIN, parameters={"lr": {"values": [0.01, 0.1]}}, metric={"name": "loss"})
    answer = shell.json(sweep, *LOCAL, "--array", "1", *warm)
    assert answer["ok"], answer
    for line in shell.wandb_python(READ, answer["sweep"]).splitlines():
        run = json.loads(line)
        assert run["state"] == "finished"
        assert (run["warm"], run["cuda"], run["gpus"]) == (bool(warm), True, 1)
        assert any(key.startswith("system.gpu.") for key in run["system"]), run["system"]


TOUCHES = """
import ctypes
driver, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
assert driver.cuInit(0) == driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
"""


def test_no_run_is_forked_from_a_process_that_has_opened_the_gpu(shell: Shell, uuids: list[str]) -> None:
    (shell.folder / "touches.py").write_text(TOUCHES)
    answer = shell.json(compute_sweep(shell, 2), *LOCAL, "--array", "1", "--preload", "touches")
    assert answer["ok"], answer
    (event,) = shell.events(answer["id"], "cold_starts")
    assert "/dev/nvidia" in event["reason"] or "threads" in event["reason"]
    check(shell.folder, 2, uuids)  # what opened it has ended, or `uuids` would see it compute


HOARDS = """
import ctypes, os, pathlib
import wandb_submit

def call(name, *arguments):
    code = getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)
    assert code == 0, f"{name}: CUDA error {code}"

def train():
    context, free, total, memory = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_uint64()
    call("cuInit", 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    call("cuCtxSetCurrent", context)
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(total.value * 2 // 3))
    pathlib.Path(f"free-{os.environ['WANDB_RUN_ID']}").write_text(str(free.value / total.value))

if __name__ == "__main__":
    config = {"method": "grid", "project": "tests", "parameters": {"x": {"values": [1, 2, 3]}}}
    submission = wandb_submit.submit(config, function=train, array=1, gpus_per_task=1, executor="local", offline=True)
    assert submission.wait().is_well
"""


def test_each_call_of_a_function_finds_the_gpus_memory_free(shell: Shell) -> None:
    """Two thirds of it, which the call before had, too."""
    (shell.folder / "hoards.py").write_text(HOARDS)
    done = shell.call(sys.executable, "hoards.py", WANDB_AGENT_DISABLE_FLAPPING="true")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [float(path.read_text()) for path in shell.folder.glob("free-*")]
    assert len(found) == 3
    assert min(found) > 0.9


def test_slurms_tasks_compute_on_the_gpus_that_slurm_gives_them(
    public_tmp: Path, clean_env: dict[str, str], uuids: list[str]
) -> None:
    """The test bed's GPUs are made up, but for their numbers: the first of its first node is this machine's first."""
    shell = Shell(folder=public_tmp, env={**clean_env, **environment()})
    try:
        sweep = compute_sweep(shell, 3)
        options = ("--offline", "--executor", "slurm", "--array", "3%1", "--gpus-per-task", "1", "--nodelist", GPU1)
        answer = shell.json(sweep, *options, "--count", "1", "--wait")
        assert answer["ok"], answer
        check(public_tmp, 3, uuids[:1])
    finally:
        subprocess.run(["scancel", "--user=root"], env=dict(shell.env), check=False, timeout=60)
        shell.leave()
