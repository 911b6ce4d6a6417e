"""Every command takes every name that a submission's commands have printed."""

from __future__ import annotations

from support import Shell, wait_until

TALKS = "import os, time\nprint('I am', os.environ['WANDB_RUN_ID'], flush=True)\ntime.sleep(600)\n"


def test_commands_take_the_names_that_are_printed(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(TALKS, name="names", parameters={"x": {"values": [1, 2, 3]}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "2", "--detach")
    submission = submitted["id"]
    runs = wait_until(lambda: both(offline_shell, submission), what="both agents have a run")
    for task, run in runs.items():
        wait_until(lambda run=run: f"I am {run}" in offline_shell.ok("logs", run), what="the run talks")
        for name in (run, run[:7], f".wandb-submit/{submission}/runs/{run}.log"):
            assert f"I am {run}" in offline_shell.ok("logs", name)
        assert f"I am {run}" in offline_shell.ok("logs", submission, run[:7])
        for names in ((f"{submission}_{task}",), (submission, str(task)), (submission, f"{submission}_{task}")):
            assert f"run {run}" in offline_shell.run("logs", *names).stdout
    log_of_1 = offline_shell.ok("logs", submission, "--task", "1")
    assert log_of_1 == offline_shell.ok("logs", submission, "--task", f"{submission}_1")
    for name in (f"{submission}_1", runs[0], submitted["sweep"]):
        assert f"submission {submission} " in offline_shell.ok("status", name)

    one_run = offline_shell.run("cancel", runs[0])
    assert one_run.returncode == 2
    assert f"`wandb-submit cancel {submission}` ends all of them" in one_run.stderr

    said = offline_shell.ok("cancel", f"{submission}_1")
    assert f"task 1 of {submission} is asked to end" in said
    states = wait_until(lambda: cancelled(offline_shell, submission), what="task 1 is cancelled")
    assert states == ["running", "cancelled"]
    assert "task 1 of " in offline_shell.ok("cancel", f"{submission}_1")
    offline_shell.ok("cancel", submission)
    waited = offline_shell.run("wait", f"{submission}_0")
    assert f"note: {submission}_0 is task 0 of the submission {submission}" in waited.stderr
    assert waited.returncode == 1


def both(shell: Shell, submission: str) -> dict[int, str]:
    tasks = shell.json("status", submission)["tasks"]
    return {task["task"]: task["running"][0] for task in tasks} if all(task["running"] for task in tasks) else {}


def cancelled(shell: Shell, submission: str) -> list[str]:
    states = [task["state"] for task in shell.json("status", submission)["tasks"]]
    return states if "cancelled" in states else []


def test_all_submissions_are_a_line_each_the_newest_first(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("print('done')\n", name="lines", parameters={"x": {"values": [1, 2]}})
    options = (sweep, "--offline", "--executor", "local", "--array", "2")
    ids = [offline_shell.json(*options)["id"] for _ in range(2)]
    head, *lines = offline_shell.ok("status", "--all").splitlines()
    assert head.split()[:5] == ["submission", "age", "state", "sweep", "runs"]
    assert [line.split()[0] for line in lines[:2]] == ids[::-1]
    for line in lines[:2]:
        assert line.split()[2] == "completed"
        assert "2 of 2" in line
        assert line.split()[1].endswith("s")
    assert offline_shell.run("status", "--all", ids[0]).returncode == 2


def test_submissions_that_share_a_sweep_tell_the_sweeps_total(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(
        "import wandb\nwandb.init()\n", name="shared", parameters={"x": {"values": [1, 2, 3, 4]}}
    )
    options = ("--offline", "--executor", "local", "--array", "1")
    first = offline_shell.json(sweep, *options, "--count", "1")
    assert "runs done 1 of 4\n" in offline_shell.ok("status", first["id"])
    second = offline_shell.json(first["sweep"], *options)
    assert (second["sweep_runs_done"], second["sweep_runs_total"]) == (4, 4)
    assert "runs done 1; sweep: 4 of 4 done\n" in offline_shell.ok("status", first["id"])
    assert "runs done 3; sweep: 4 of 4 done\n" in offline_shell.ok("status", second["id"])
    lines = offline_shell.ok("status", "--all").splitlines()
    assert ["1; sweep: 4 of 4 done" in line for line in lines if first["id"] in line] == [True]
    shown = first["sweep"].rpartition("/")[2] + "-1"  # as the best run is told
    run = offline_shell.events(first["id"], "run_started")[0]["run"]
    assert offline_shell.ok("logs", shown) == offline_shell.ok("logs", run)
