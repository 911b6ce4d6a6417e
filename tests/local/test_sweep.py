"""A sweep on this machine: the right devices, every run once, and ends that lose nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import Shell, alive, commands, overlapping, processes_of, timeline, undisturbed, wait_until

# Writes down where it ran; with wandb, as a training script would.
RECORD = """
import argparse, json, os, time
started = time.time()
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int)
x = parser.parse_args().x
import wandb
with wandb.init() as run:
    run.log({"loss": (x - 5) ** 2})
    place = {"x": x, "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "cores": sorted(os.sched_getaffinity(0)),
             "threads": os.environ.get("OMP_NUM_THREADS")}
    run_id = run.id
with open(f"place-{run_id}.json", "w") as file:
    json.dump({**place, "started": started, "ended": time.time()}, file)
"""

# The same without wandb, for tests that need many runs or quick ones.
RECORD_QUICKLY = """
import json, os, sys, time
started = time.time()
time.sleep(0.3)
place = {"cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "started": started, "ended": time.time()}
with open(os.path.join(os.environ.get("PLACES", "."), "place-" + os.environ["WANDB_RUN_ID"] + ".json"), "w") as file:
    json.dump(place, file)
"""

SLEEP = "import os, time\nopen('started-' + os.environ['WANDB_RUN_ID'], 'w').close()\ntime.sleep(600)\n"


def places(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("place-*.json")]


def test_six_tasks_on_four_gpus_run_a_grid_each_point_once_and_never_two_runs_on_one_gpu(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(RECORD, parameters={"x": {"values": list(range(12))}}, metric={"name": "loss"})
    answer = offline_shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "6", "--gpus-per-task", "1"),
        CUDA_VISIBLE_DEVICES="0,1,2,3",
    )
    seen = places(offline_shell.folder)

    assert sorted(place["x"] for place in seen) == list(range(12))
    assert {place["cuda"] for place in seen} == {"0", "1", "2", "3"}
    for gpu in "0123":
        assert not overlapping([(place["started"], place["ended"]) for place in seen if place["cuda"] == gpu])
    assert answer["results"]["states"] == {"finished": 12}
    assert answer["results"]["best"]["config"]["x"] == 5
    assert answer["results"]["best"]["metric"] == 0
    assert answer["results"]["best"]["id"] == answer["results"]["best"]["run"]
    started = offline_shell.events(answer["id"], "run_started")
    assert len({event["run"] for event in started}) == len(started) == 12
    places_of_agents = {event["agent"]: event["gpus"] for event in offline_shell.events(answer["id"], "agent_started")}
    assert set(places_of_agents.values()) <= {"0", "1", "2", "3"}
    for event in started:
        record = json.loads((offline_shell.folder / f"place-{event['run']}.json").read_text())
        assert record["cuda"] == places_of_agents[event["agent"]]
    lives = timeline(offline_shell.events(answer["id"]))
    assert sorted(run for life in lives for run, _, _ in life.runs) == sorted(event["run"] for event in started)
    for gpu in "0123":  # what the events tell of a GPU fits together, and with what its runs saw
        assert not overlapping([(life.began, life.ended) for life in lives if life.gpus == gpu])
    for life in lives:
        assert all(idle >= 0 for idle in life.idle)
        for run, began, ended in life.runs:
            record = json.loads((offline_shell.folder / f"place-{run}.json").read_text())
            assert record["cuda"] == life.gpus
            assert began <= record["started"] + 1
            assert record["ended"] - 1 <= ended


def test_cores_asked_for_are_owned_and_bind_the_runs(shell: Shell) -> None:
    sweep = shell.sweep(RECORD, parameters={"x": {"values": [1, 2, 3]}})
    shell.ok(sweep, "--offline", "--executor", "local", "--array", "3", "--cpus-per-task", "1", "--count", "1")
    seen = places(shell.folder)
    assert len(seen) == 3
    assert all(len(place["cores"]) == 1 and place["threads"] == "1" for place in seen)
    for core in os.sched_getaffinity(0):
        assert not overlapping([(place["started"], place["ended"]) for place in seen if place["cores"] == [core]])


def test_two_submissions_at_once_never_share_a_gpu(offline_shell: Shell, tmp_path: Path) -> None:
    sweep = offline_shell.sweep(RECORD_QUICKLY, name="twice", parameters={"x": {"values": list(range(6))}})
    arguments = (sweep, "--offline", "--executor", "local", "--array", "2", "--gpus-per-task", "1")
    both = [offline_shell.start(*arguments, CUDA_VISIBLE_DEVICES="0,1,2", PLACES=str(tmp_path)) for _ in range(2)]
    for one in both:
        _, problems = one.communicate(timeout=120)
        assert one.returncode == 0, problems
    seen = places(tmp_path)
    assert len(seen) == 12
    for gpu in "012":
        assert not overlapping([(place["started"], place["ended"]) for place in seen if place["cuda"] == gpu])


def test_a_submission_that_needs_many_gpus_is_not_overtaken_by_later_ones(offline_shell: Shell) -> None:
    script = "import os, time\nwhile not os.path.exists('queue-go'): time.sleep(0.05)\n"
    sweep = offline_shell.sweep(script, name="turns", parameters={"x": {"values": list(range(9))}})

    def submit(gpus: str) -> str:
        answer = offline_shell.json(
            *(sweep, "--offline", "--executor", "local", "--array", "1", "--gpus-per-task", gpus),
            *("--count", "1", "--detach"),
            CUDA_VISIBLE_DEVICES="0,1",
        )
        return str(answer["id"])

    def detail(submission: str) -> str:
        return str(offline_shell.json("status", submission)["tasks"][0]["detail"])

    first = submit("1")
    wait_until(lambda: offline_shell.events(first, "run_started"), what="the first has a GPU")
    large = submit("2")
    lacks = f"waits for 2 GPUs (1 of 2 free; held by submission {first})"
    wait_until(lambda: detail(large) == lacks, what="the second waits for both")
    later = submit("1")
    behind = f"waits for 1 GPU, behind submission {large} that came earlier"
    wait_until(lambda: detail(later) == behind, what="the third waits")
    (offline_shell.folder / "queue-go").touch()
    for submission in (first, large, later):
        offline_shell.ok("wait", submission)
    (large_run,), (later_run,) = (offline_shell.events(one, "run_started") for one in (large, later))
    assert large_run["t"] < later_run["t"]


def test_count_bounds_each_agents_runs_even_beside_a_file_named_like_pythons_own(shell: Shell, tmp_path: Path) -> None:
    sweep = shell.sweep(RECORD_QUICKLY, name="random", parameters={"x": {"values": list(range(9))}})
    answer = shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "2", "--count", "2"), PLACES=str(tmp_path)
    )
    assert [task["done"] for task in answer["tasks"]] == [2, 2]
    assert {task["detail"] for task in answer["tasks"]} == {"--count 2 reached"}


def test_ctrl_c_ends_the_runs_cleanly_and_keeps_their_data(shell: Shell) -> None:
    script = (
        "import time, wandb\nrun = wandb.init()\nrun.log({'loss': 1})\nopen('ready', 'w').close()\ntime.sleep(600)\n"
    )
    sweep = shell.sweep(script, parameters={"x": {"values": [1, 2, 3]}})
    waiting = shell.start(sweep, "--offline", "--executor", "local", "--array", "1")
    wait_until((shell.folder / "ready").exists, what="the run has logged")
    waiting.send_signal(signal.SIGINT)
    output, messages = waiting.communicate(timeout=60)

    assert "asking the runs to end" in messages
    assert "1 killed" in output
    status = shell.json("status")
    assert [task["state"] for task in status["tasks"]] == ["cancelled"]
    (finished,) = shell.events(status["id"], "run_finished")
    assert finished["reason"] == "the submission was cancelled"
    code = (
        "import sys, wandb; (run,) = wandb.Api().sweep(sys.argv[1]).runs; print(run.state, dict(run.summary)['loss'])"
    )
    assert shell.wandb_python(code, status["sweep"]).split() == ["killed", "1"]


def test_cancel_from_another_shell_ends_running_tasks_and_drops_pending_ones(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="cancel", parameters={"x": {"values": [1, 2, 3]}})
    submitted = offline_shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "3", "--gpus-per-task", "1", "--detach"),
        CUDA_VISIBLE_DEVICES="0",
    )
    events = wait_until(lambda: offline_shell.events(submitted["id"], "run_started"), what="a run has started")
    status = offline_shell.json("status", submitted["id"])
    assert [task["state"] for task in status["tasks"]] == ["running", "pending", "pending"]
    assert status["tasks"][0]["running"] == [events[0]["run"]]

    unnamed = offline_shell.run("cancel")
    assert unnamed.returncode == 2
    assert f"  {submitted['id']}: sweep {submitted['sweep']}, 3 tasks on local, runs done 0 of 3" in unnamed.stderr
    offline_shell.ok("cancel", submitted["id"])
    done = offline_shell.run("wait", submitted["id"], "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert [task["state"] for task in answer["tasks"]] == ["cancelled"] * 3
    assert [task["stopped"] for task in answer["tasks"]] == [1, 0, 0]
    assert (answer["runs_done"], answer["runs_failed"], answer["runs_stopped"]) == (0, 0, 1)
    assert "agents 1, 2 cancelled" in done.stderr
    assert not {"--task 1", "--task 2"} & set(re.findall(r"--task \d", done.stderr))  # they have no log
    assert "none of this folder's runs now" in offline_shell.run("cancel").stderr
    assert not alive(events[0]["pid"])
    assert len(offline_shell.events(submitted["id"], "run_started")) == 1


def test_a_run_that_ignores_signals_is_killed_by_the_second_cancel(offline_shell: Shell) -> None:
    script = (
        "import os, signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda *_: None)\n"
        "open('stubborn', 'w').close()\n"
        "while True: time.sleep(1)\n"
    )
    sweep = offline_shell.sweep(script, name="stubborn", parameters={"x": {"value": 1}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    wait_until((offline_shell.folder / "stubborn").exists, what="the run ignores signals")
    (event,) = wait_until(
        lambda: offline_shell.events(submitted["id"], "run_started"), what="its start is written down"
    )
    offline_shell.ok("cancel", submitted["id"])
    time.sleep(1)
    assert alive(event["pid"])
    offline_shell.ok("cancel", submitted["id"])
    wait_until(lambda: not alive(event["pid"]), what="the run is dead")


def test_sigterm_to_an_agent_stops_it_with_its_run(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="term", parameters={"x": {"values": [1, 2]}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    (run,) = wait_until(lambda: offline_shell.events(submitted["id"], "run_started"), what="a run has started")
    (agent,) = offline_shell.events(submitted["id"], "agent_started")
    os.kill(agent["pid"], signal.SIGTERM)
    answer = json.loads(offline_shell.run("wait", submitted["id"], "--json").stdout)
    assert not alive(run["pid"])
    assert answer["tasks"][0]["detail"] == "received SIGTERM"
    (finished,) = offline_shell.events(submitted["id"], "run_finished")
    assert finished["exit_code"] != 0


def test_an_agent_gives_up_when_its_first_runs_fail_and_says_why(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(
        "raise SystemExit('no such dataset')", name="fail", parameters={"x": {"values": [*range(9)]}}
    )
    done = offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "1")
    assert done.returncode == 1
    assert "3 runs failed within the first 60 s" in done.stderr
    submission_id = offline_shell.json("status")["id"]
    failed = offline_shell.events(submission_id, "run_finished")
    assert [event["exit_code"] for event in failed] == [1, 1, 1]
    assert "no such dataset" in offline_shell.ok("logs", submission_id, failed[0]["run"])


def test_a_run_that_is_killed_counts_as_failed(offline_shell: Shell) -> None:
    script = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    sweep = offline_shell.sweep(script, name="oom", parameters={"x": {"values": [*range(9)]}})
    done = offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "1")
    assert done.returncode == 1
    assert "killed by signal 9" in done.stderr


def test_stop_from_the_server_ends_the_run_and_the_agent_goes_on(offline_shell: Shell, tmp_path: Path) -> None:
    script = (
        "import os, time, wandb\n"
        "run = wandb.init()\n"
        "if run.config.x == 0:\n"
        "    open('started-' + run.id, 'w').close()\n"
        "    time.sleep(600)\n"
    )
    sweep = offline_shell.sweep(script, name="stop", parameters={"x": {"values": [0, 1]}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    (run,) = wait_until(lambda: offline_shell.events(submitted["id"], "run_started"), what="a run has started")
    wait_until((offline_shell.folder / f"started-{run['run']}").exists, what="it is with the server")
    offline_shell.wandb_python("import sys, wandb; wandb.Api().run(sys.argv[1]).stop()", f"local/tests/{run['run']}")
    answer = json.loads(offline_shell.run("wait", submitted["id"], "--json").stdout)
    assert (answer["runs_done"], answer["runs_stopped"]) == (1, 1)
    assert sorted(answer["results"]["states"]) == ["finished", "killed"]


def test_the_server_may_go_away_between_and_during_runs(shell: Shell) -> None:
    script = "import time, wandb\nwith wandb.init() as run:\n    time.sleep(3)\n    run.log({'loss': 1})\n"
    sweep = shell.sweep(script, parameters={"x": {"values": [1, 2, 3]}})
    submitted = shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    wait_until(lambda: shell.events(submitted["id"], "run_started"), what="a run has started")
    server = shell.json("server", "status")
    os.kill(server["pid"], signal.SIGKILL)
    wait_until(lambda: shell.events(submitted["id"], "server_lost"), what="the agent has noticed")
    shell.ok("server", "start")
    answer = shell.json("wait", submitted["id"])
    assert answer["results"]["states"] == {"finished": 3}
    assert len({event["run"] for event in shell.events(submitted["id"], "run_started")}) == 3
    assert shell.events(submitted["id"], "server_back")


def test_a_live_table_is_shown_in_a_terminal(offline_shell: Shell, tmp_path: Path) -> None:
    sweep = offline_shell.sweep(RECORD_QUICKLY, name="table", parameters={"x": {"values": [1, 2, 3]}})
    screen = tmp_path / "screen"
    command = f"wandb-submit {sweep} --offline --executor local --array 2"
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, str(screen)],
        cwd=offline_shell.folder,
        env={**offline_shell.env, "TERM": "xterm", "COLUMNS": "120", "PLACES": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    shown = screen.read_text()
    assert done.returncode == 0, shown
    assert "\x1b[" in shown
    assert "running" in shown
    assert "completed" in shown
    assert "runs: 3" in shown


def test_a_wrapper_script_ends_at_once_with_what_it_started(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="wrapped", parameters={"x": {"value": 1}})
    (offline_shell.folder / "wrapper.sh").write_text("python wrapped.py\necho done\n")
    config = (offline_shell.folder / sweep).read_text() + "command: [bash, wrapper.sh]\n"
    (offline_shell.folder / sweep).write_text(config)
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    (run,) = wait_until(lambda: offline_shell.events(submitted["id"], "run_started"), what="a run has started")
    wait_until((offline_shell.folder / f"started-{run['run']}").exists, what="its program runs")
    offline_shell.ok("cancel", submitted["id"])
    offline_shell.run("wait", submitted["id"], timeout_s=20)
    assert not alive(run["pid"])


def test_signals_in_pairs_are_never_missed(offline_shell: Shell) -> None:
    """Slurm sends SIGCONT with each of its signals; a requeue must follow each time."""
    sweep = offline_shell.sweep(SLEEP, name="pairs", parameters={"x": {"values": list(range(9))}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    for restart in range(6):
        (agent, *_) = wait_until(
            lambda: offline_shell.events(submitted["id"], "agent_started")[restart:],  # noqa: B023 called at once
            timeout_s=30,
            what=f"the agent has started again, {restart} times",
        )
        started = wait_until(
            lambda: offline_shell.events(submitted["id"], "run_started")[restart:],  # noqa: B023 called at once
            timeout_s=30,
            what="its run has started",
        )
        assert alive(started[0]["pid"])
        os.kill(agent["pid"], signal.SIGCONT)
        os.kill(agent["pid"], signal.SIGUSR2)
    assert [event["restarts"] for event in offline_shell.events(submitted["id"], "agent_started")] == list(range(6))
    offline_shell.ok("cancel", submitted["id"])
    offline_shell.run("wait", submitted["id"])


@pytest.mark.parametrize("delay_s", [0.6, 1.0, 1.4, 1.8, 2.2])
def test_ctrl_c_during_submit_leaves_nothing_that_cannot_be_found(offline_shell: Shell, delay_s: float) -> None:
    sweep = offline_shell.sweep(SLEEP, name="interrupted", parameters={"x": {"values": [1, 2]}})
    submitting = offline_shell.start(sweep, "--offline", "--executor", "local", "--array", "2", "--detach")
    time.sleep(delay_s)
    submitting.send_signal(signal.SIGINT)
    submitting.communicate(timeout=60)
    known = {path.parent.name for path in offline_shell.folder.glob(".wandb-submit/*/submission.json")}
    running = {
        Path(entry).parts[-3]
        for arguments in commands().values()
        for entry in arguments
        if entry.startswith(str(offline_shell.folder)) and "queue-" in entry
    }
    assert running <= known
    for submission_id in running:
        offline_shell.ok("cancel", submission_id)
        offline_shell.run("wait", submission_id)


def test_ctrl_c_while_the_scheduler_begins_ends_it(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="interrupted", parameters={"x": {"values": [1, 2]}})
    known = set(offline_shell.folder.glob(".wandb-submit/*/submission.json"))
    locks = set(offline_shell.folder.rglob("scheduler.lock"))
    submitting = offline_shell.start(sweep, "--offline", "--executor", "local", "--array", "2", "--detach")
    # It has its lock, and has not yet said where it is to be told something.
    (lock,) = wait_until(lambda: set(offline_shell.folder.rglob("scheduler.lock")) - locks, what="it begins")
    submitting.send_signal(signal.SIGINT)
    submitting.communicate(timeout=60)
    assert processes_of(lock.parent) == []
    assert set(offline_shell.folder.glob(".wandb-submit/*/submission.json")) == known


def test_logs_do_not_show_a_run_as_running_whose_agent_was_killed(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="lost", parameters={"x": {"values": [1, 2]}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    wait_until(lambda: offline_shell.events(submitted["id"], "run_started"), what="a run has started")
    assert " running " in offline_shell.ok("logs", submitted["id"])
    (agent,) = offline_shell.events(submitted["id"], "agent_started")
    os.kill(agent["pid"], signal.SIGKILL)
    offline_shell.run("wait", submitted["id"])
    assert " lost with its agent " in offline_shell.ok("logs", submitted["id"])


def test_ctrl_c_in_wait_ends_the_view_alone(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(SLEEP, name="viewed", parameters={"x": {"value": 1}})
    submitted = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--detach")
    (run,) = wait_until(lambda: offline_shell.events(submitted["id"], "run_started"), what="a run has started")
    viewing = offline_shell.start("wait", submitted["id"])
    time.sleep(2)
    viewing.send_signal(signal.SIGINT)
    _, messages = viewing.communicate(timeout=30)
    assert viewing.returncode == 130
    assert "the agents go on" in messages
    assert alive(run["pid"])
    offline_shell.ok("cancel", submitted["id"])
    offline_shell.run("wait", submitted["id"])


def test_tasks_that_wait_when_the_sweep_is_over_are_dropped_and_all_is_well(
    offline_shell: Shell, tmp_path: Path
) -> None:
    sweep = offline_shell.sweep(RECORD_QUICKLY, name="surplus", parameters={"x": {"values": [1, 2]}})
    answer = offline_shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "5%1", "--wait"), PLACES=str(tmp_path)
    )
    assert answer["ok"], answer
    assert answer["halt"] == "the sweep is over"
    assert [task["state"] for task in answer["tasks"]] == ["completed"] + ["cancelled"] * 4
    assert {task["detail"] for task in answer["tasks"]} == {"the sweep is over"}


def test_a_broken_script_stops_the_whole_submission(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("raise SystemExit(3)", name="broken", parameters={"x": {"values": list(range(50))}})
    done = offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "3", "--json", "--wait")
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert "have all failed" in answer["halt"]
    assert 5 <= answer["runs_failed"] <= 9
    assert answer["runs_done"] == answer["runs_failed"]


@pytest.mark.parametrize(
    ("command", "taken", "says"),
    [
        (["${env}", "no-such", "${program}"], 0, "there is no program 'no-such', which they run; PATH is"),
        (["no-such", "${program}"], 0, "there is no program 'no-such', which they run; PATH is"),
        (["./program.py"], 0, "program.py is no executable file"),
        (["./script.sh"], 1, "No such file or directory: './script.sh'"),
    ],
    ids=["by env", "by itself", "not executable", "without its interpreter"],
)
def test_a_command_that_cannot_be_executed_uses_up_no_runs_and_is_told(
    command: list[str], taken: int, says: str, offline_shell: Shell
) -> None:
    sweep = offline_shell.sweep("", name="program", parameters={"x": {"values": list(range(9))}}, command=command)
    script = offline_shell.folder / "script.sh"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "1", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], answer["runs_failed"]) == (1, False, taken)
    assert says in answer["tasks"][0]["detail"]
    assert f"agent 0 failed: {answer['tasks'][0]['detail']}" in done.stderr
    assert sum(answer["results"]["states"].values()) == taken


def test_a_halt_file_made_by_hand_lets_the_running_runs_end(offline_shell: Shell, tmp_path: Path) -> None:
    script = RECORD_QUICKLY.replace("time.sleep(0.3)", "time.sleep(1.5)")
    sweep = offline_shell.sweep(script, name="by_hand", parameters={"x": {"values": list(range(50))}})
    submitted = offline_shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "2", "--detach"), PLACES=str(tmp_path)
    )
    wait_until(lambda: len(offline_shell.events(submitted["id"], "run_started")) >= 2, what="two runs have begun")
    (offline_shell.submission(submitted["id"]) / "halt").write_text("enough for today\n")
    answer = offline_shell.json("wait", submitted["id"])
    ends = offline_shell.events(submitted["id"], "run_finished")
    assert [end["exit_code"] for end in ends] == [0] * len(ends)
    assert answer["halt"] == "enough for today"
    assert len(places(tmp_path)) == answer["runs_done"] < 10


def test_a_task_without_time_for_another_run_begins_anew_and_cuts_none_short(shell: Shell) -> None:
    """Of three minutes 90 s are for runs: after the third run of 11 s, less than a minute is left."""
    sweep = shell.sweep("import time; time.sleep(11)", parameters={"x": {"values": [1, 2, 3, 4]}})
    answer = shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "1"),
        *("--time", "3", "--min-time-per-run", "1"),
        timeout_s=200,
    )
    assert answer["ok"], answer
    assert [event["restarts"] for event in shell.events(answer["id"], "agent_started")] == [0, 1]
    assert [event["exit_code"] for event in shell.events(answer["id"], "run_finished")] == [0] * 4
    (first, second) = shell.events(answer["id"], "agent_stopped")
    assert "one takes up to 60 s" in first["reason"]
    assert second["reason"] == "the sweep is over"
    lives = timeline(shell.events(answer["id"]))
    assert [len(life.runs) for life in lives] == [3, 1]
    assert lives[0].ended <= lives[1].began
    assert [len(life.idle) for life in lives] == [4, 2]  # also before the first run and after the last
    assert all(idle >= 0 for life in lives for idle in life.idle)


def test_a_preemptible_example_that_is_cancelled_goes_on_with_the_next_submission(shell: Shell) -> None:
    sweep = shell.example("preemptible")
    options = ("--offline", "--executor", "local", "--array", "2")
    submitted = shell.json(sweep, *options, "--detach")
    checkpoints = shell.folder / "checkpoints"
    wait_until(lambda: len(list(checkpoints.glob("*.json"))) == 2, what="both runs have a checkpoint")
    shell.ok("cancel", submitted["id"])
    assert shell.run("wait", submitted["id"]).returncode == 1
    assert shell.states(submitted["sweep"]) == {"preempted": 2}

    answer = shell.json(submitted["sweep"], *options)
    assert answer["ok"], answer
    assert answer["results"]["states"] == {"finished": 2}
    assert all(event["resumed"] for event in shell.events(answer["id"], "run_started"))
    histories = sorted(shell.histories(answer["sweep"], "_step", "loss").values(), key=lambda rows: rows[0][1])
    assert histories == [undisturbed(0.3, 40), undisturbed(0.1, 40)]


def test_agents_that_share_a_task_split_its_gpus_and_do_not_touch_each_other(
    offline_shell: Shell, tmp_path: Path
) -> None:
    """One process, two agents with two GPUs each; the run that kills itself is a failure of its own."""
    script = RECORD_QUICKLY + "if sys.argv[1] == '--x=3': os.kill(os.getpid(), 9)\n"
    sweep = offline_shell.sweep(script, name="shared", parameters={"x": {"values": list(range(8))}})
    done = offline_shell.run(
        *(sweep, "--offline", "--executor", "local", "--array", "1", "--wait", "--json"),
        *("--gpus-per-task", "4", "--agents-per-task", "2"),
        CUDA_VISIBLE_DEVICES="0,1,2,3",
        PLACES=str(tmp_path),
    )
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    (task,) = answer["tasks"]
    assert (task["state"], task["gpus"], task["done"], task["failed"]) == ("completed", "0,1,2,3", 8, 1)
    seen = places(tmp_path)
    assert len(seen) == 8
    assert {place["cuda"] for place in seen} == {"0,1", "2,3"}
    for gpus in ("0,1", "2,3"):
        assert not overlapping([(place["started"], place["ended"]) for place in seen if place["cuda"] == gpus])
    agents = offline_shell.events(answer["id"], "agent_started")
    assert {(agent["agent"], agent["gpus"]) for agent in agents} == {("0", "0,1"), ("0.1", "2,3")}
    assert len({agent["pid"] for agent in agents}) == 1


def test_count_holds_for_each_agent_of_a_task(offline_shell: Shell, tmp_path: Path) -> None:
    sweep = offline_shell.sweep(RECORD_QUICKLY, name="counted", parameters={"x": {"values": list(range(20))}})
    answer = offline_shell.json(
        *(sweep, "--offline", "--executor", "local", "--array", "1", "--agents-per-task", "3", "--count", "2"),
        PLACES=str(tmp_path),
    )
    assert answer["runs_done"] == 6
    assert [stop["runs"] for stop in offline_shell.events(answer["id"], "agent_stopped")] == [2, 2, 2]


def test_a_run_that_cannot_be_started_is_listed_with_the_reason(shell: Shell) -> None:
    sweep = shell.sweep("pass", parameters={"x": {"value": 1}})
    blocked = shell.folder / "blocked"
    blocked.write_text("a file where a folder should be")
    done = shell.run(
        *(sweep, "--offline", "--executor", "local", "--array", "1", "--count", "1", "--wait"), WANDB_DIR=str(blocked)
    )
    assert done.returncode == 1
    (submission,) = [path.parent.name for path in shell.folder.glob(".wandb-submit/*/submission.json")]
    (event,) = shell.events(submission, "run_abandoned")
    assert "blocked" in event["reason"]
    told = f"run {event['run']} not started: {event['reason']}"
    assert f"{told} (its agent's log: wandb-submit logs {submission} --task 0)" in done.stderr.splitlines()
    assert "wandb.init" not in done.stderr  # it did not end well without that: it never began
    assert f"not started: {event['reason']}" in shell.ok("logs", submission)
    asked = shell.run("logs", submission, event["run"])
    assert (asked.returncode, event["reason"] in asked.stderr) == (3, True)
