"""The command line as a person uses it: the forms of SWEEP, dry runs, results, secrets."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, Shell, alive, wait_until

QUICKLY = "import os; open('ran-' + os.environ['WANDB_RUN_ID'], 'w').close()\n"


def test_the_readmes_quickstart_works_as_written_and_can_be_read_back(shell: Shell) -> None:
    (command,) = re.findall(r"^    wandb-submit (examples/quickstart/.*)$", (ROOT / "README.md").read_text(), re.M)
    assert f"\twandb-submit {command}\n" in (ROOT / "Makefile").read_text()
    shutil.copytree(ROOT / "examples", shell.folder / "examples")

    started = time.monotonic()
    done = shell.run(*command.split(), timeout_s=180)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert seconds < 90
    for agent in range(4):
        assert f"agent {agent}: started on " in done.stderr
    assert done.stderr.count(" started\n") == done.stderr.count(" finished after ") == 12
    assert "runs: 12 (12 finished)" in done.stdout
    best = re.search(r"best run: (\w+) ", done.stdout)
    assert best is not None

    sweep = re.search(r"created sweep (\S+) at", done.stderr)
    assert sweep is not None
    code = """
import json, sys, wandb
sweep = wandb.Api().sweep(sys.argv[1])
runs = [{"id": run.id, "state": run.state, "lr": run.config["lr"], "hidden": run.config["hidden"],
         "accuracy": run.summary["val_accuracy"], "curve": len(run.history(keys=["loss"], pandas=False))}
        for run in sweep.runs]
print(json.dumps({"state": sweep.state, "best": sweep.best_run().id, "runs": runs}))
"""
    seen = json.loads(shell.wandb_python(code, sweep[1]))
    assert seen["state"].lower() == "finished"
    assert seen["best"] == best[1] == max(seen["runs"], key=lambda run: run["accuracy"])["id"]
    assert {(run["lr"], run["hidden"]) for run in seen["runs"]} == {
        (lr, hidden) for lr in (0.003, 0.03, 0.3) for hidden in (8, 16, 32, 64)
    }
    assert {(run["state"], run["curve"]) for run in seen["runs"]} == {("finished", 8)}


def new_sweep(shell: Shell, name: str) -> str:
    """Creates a sweep as a W&B user does; returns its path."""
    shell.sweep(QUICKLY, name=name, parameters={"x": {"values": [1, 2]}})
    point = f'eval "$(wandb-submit server env)" && exec wandb sweep {name}.yaml'
    done = shell.call("sh", "-c", point)
    assert done.returncode == 0, done.stderr
    found = re.search(r"wandb agent (\S+)", done.stdout + done.stderr)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("form", ["id", "project/id", "entity/project/id", "url"])
def test_every_form_of_naming_a_sweep(offline_shell: Shell, form: str) -> None:
    path = new_sweep(offline_shell, form.replace("/", "-"))
    entity, project, sweep_id = path.split("/")
    url = offline_shell.json("server", "status")["url"]
    named = {
        "id": sweep_id,
        "project/id": f"{project}/{sweep_id}",
        "entity/project/id": path,
        "url": f"{url}/{entity}/{project}/sweeps/{sweep_id}?workspace=user",
    }[form]
    answer = offline_shell.json(
        *(named, "--offline", "--executor", "local", "--array", "1"), WANDB_PROJECT=project if form == "id" else ""
    )
    assert answer["sweep"] == path
    assert answer["runs_done"] == 2


def test_a_url_of_another_server_is_refused(offline_shell: Shell) -> None:
    done = offline_shell.run("https://wandb.ai/me/vision/sweeps/abc12345", "--offline", "--executor", "local")
    assert done.returncode == 2
    assert "is on wandb.ai, not on the offline server: leave --offline out" in done.stderr


def test_the_environment_of_a_login_is_enough_without_offline(offline_shell: Shell) -> None:
    path = new_sweep(offline_shell, "login")
    point = f'eval "$(wandb-submit server env)" && exec wandb-submit {path} --executor local --array 1 --json'
    done = offline_shell.call("sh", "-c", point)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs_done"] == 2


def test_a_login_in_netrc_is_enough(offline_shell: Shell, tmp_path: Path) -> None:
    path = new_sweep(offline_shell, "in-netrc")
    known = json.loads((offline_shell.folder / ".wandb-submit" / "server" / "server.json").read_text())
    netrc = tmp_path / "netrc"
    netrc.touch(0o600)
    netrc.write_text(f"machine {known['url'].partition('//')[2]} login user password {known['api_key']}\n")
    env = {"NETRC": str(netrc), "WANDB_BASE_URL": known["url"]}
    answer = offline_shell.json(path, "--executor", "local", "--array", "1", **env)
    assert answer["runs_done"] == 2


def test_the_key_is_in_no_file_and_no_argument_list(shell: Shell) -> None:
    script = (
        "import contextlib, glob\n"
        "with open('arguments', 'wb') as arguments:\n"
        "    for path in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "        with contextlib.suppress(FileNotFoundError, ProcessLookupError):\n"
        "            arguments.write(open(path, 'rb').read())\n"
    )
    sweep = shell.sweep(script, parameters={"x": {"value": 1}})
    answer = shell.json(sweep, "--offline", "--executor", "local", "--array", "1")
    key = json.loads((shell.folder / ".wandb-submit" / "server" / "server.json").read_text())["api_key"].encode()
    assert answer["runs_done"] == 1
    files = [path for path in shell.folder.rglob("*") if path.is_file() and "server" not in path.parts]
    assert (shell.folder / "arguments") in files
    assert b"sweep.py" in (shell.folder / "arguments").read_bytes()
    assert len(files) > 8
    assert [path for path in files if key in path.read_bytes()] == []
    assert key not in (shell.folder / ".wandb-submit" / "server" / "server.log").read_bytes()


def test_a_dry_run_shows_tasks_and_devices_and_changes_nothing(shell: Shell) -> None:
    sweep = shell.sweep(QUICKLY, parameters={"x": {"values": [1, 2, 3]}})
    options = ("--offline", "--executor", "local", "--array", "3", "--gpus-per-task", "2", "--dry-run")
    shown = shell.ok(sweep, *options, CUDA_VISIBLE_DEVICES="4,5,6,7")
    rows = [line.split()[:2] for line in shown.splitlines()[3:6]]
    assert rows == [["0", "4,5"], ["1", "6,7"], ["2", "the"]]
    assert sorted(path.name for path in shell.folder.iterdir()) == ["sweep.py", "sweep.yaml"]


def test_without_a_number_there_is_one_agent_per_device_but_none_without_a_run(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(QUICKLY, name="default", parameters={"x": {"values": [1, 2, 3]}})
    done = offline_shell.run(
        *(sweep, "--offline", "--executor", "local", "--gpus-per-task", "1", "--dry-run"),
        CUDA_VISIBLE_DEVICES="0,1,2,3,4",
    )
    assert "note: --array was not given: 3 array tasks" in done.stderr
    assert done.stdout.startswith("3 array tasks")


def test_a_template_fills_in_and_the_command_line_wins(shell: Shell) -> None:
    sweep = shell.sweep(QUICKLY, parameters={"x": {"value": 1}})
    (shell.folder / "mine.yaml").write_text("array: 3\ngpus-per-task: 2\ntime: 1:00:00\n")
    options = ("--offline", "--executor", "local", "--template", "mine.yaml", "--gpus-per-task", "1", "--dry-run")
    shown = shell.ok(sweep, *options, CUDA_VISIBLE_DEVICES="0,1,2")
    assert shown.startswith("3 array tasks")
    assert "3 at a time, at most 60 min each" in shown


def test_python_does_what_the_command_does(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(QUICKLY, name="python", parameters={"x": {"values": [1, 2]}})
    code = f"""
import wandb_submit
submission = wandb_submit.submit("{sweep}", array=2, executor="local", offline=True)
snapshot = wandb_submit.Submission.attach(submission.id).wait()
assert snapshot.is_well, snapshot
print(snapshot.runs_done, len(submission.runs()))
"""
    (offline_shell.folder / "python_api.py").write_text(code)
    done = offline_shell.call(sys.executable, "python_api.py")
    assert done.stdout.split() == ["2", "2"], done.stderr


@pytest.mark.parametrize("command", [(), ("submit",), ("status",), ("logs",), ("wait",), ("cancel",), ("server",)])
def test_every_command_has_help(shell: Shell, command: tuple[str, ...]) -> None:
    shown = shell.ok(*command, "--help")
    assert shown.startswith("Usage: wandb-submit")


def test_the_readme_names_the_options_needed_first_and_every_command_is_on_a_page(shell: Shell) -> None:
    first = shell.ok("--help").partition("Options needed first:")[2].partition("\n\n")[0]
    table = (ROOT / "README.md").read_text().partition("## The options needed first")[2].partition("\n## ")[0]
    named = set(re.findall(r"--[a-z][a-z-]*", first))
    assert len(named) <= 8
    assert set(re.findall(r"--[a-z][a-z-]*", table)) == named | {"--help"}
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    commands = re.findall(r"^  ([a-z]+)  ", shell.ok("--help").partition("Commands:")[2], re.M)
    assert [command for command in commands if f"wandb-submit {command}" not in pages and command != "submit"] == []


def test_status_of_everything_lists_all_submissions(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep(QUICKLY, name="all", parameters={"x": {"value": 1}})
    first = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1")["id"]
    second = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1")["id"]
    listed = [one["id"] for one in offline_shell.json("status", "--all")]
    assert [one for one in listed if one in (first, second)] == [first, second]
    assert offline_shell.json("status")["id"] == second
    assert offline_shell.json("status", first[:5])["id"] == first
    assert f"submission {first}" in offline_shell.ok("status", first)
    table = offline_shell.ok("logs", first)
    run = offline_shell.events(first, "run_started")[0]["run"]
    assert f"{run}  0" in table
    assert f".wandb-submit/{first}/runs/{run}.log" in table


def test_a_program_beside_the_sweep_file_is_found(shell: Shell) -> None:
    inner = shell.folder / "inner"
    inner.mkdir()
    Shell(folder=inner, env=shell.env).sweep(QUICKLY, parameters={"x": {"value": 1}})
    answer = shell.json("inner/sweep.yaml", "--offline", "--executor", "local", "--array", "1")
    assert answer["runs_done"] == 1
    assert len(list(shell.folder.glob("ran-*"))) == 1


def test_the_server_commands(shell: Shell) -> None:
    assert "http://127.0.0.1:" in shell.ok("server", "start")
    first = shell.json("server", "status")
    assert first["data"] == str(shell.folder / ".wandb-submit" / "server")
    shell.ok("server", "start")
    assert shell.json("server", "status")["pid"] == first["pid"]
    exported = shell.ok("server", "env")
    assert f"export WANDB_BASE_URL={first['url']}\n" in exported
    assert re.search(r"^export WANDB_API_KEY=\w{40,}$", exported, re.M)
    assert first["runs"] == {}
    assert first["uptime_s"] >= 0
    assert re.search(r"^version .*, up .*; 0 sweeps, 0 runs, 0 agents at work$", shell.ok("server", "status"), re.M)
    assert re.search(r"serving .* at http://127\.0\.0\.1:\d+\n$", shell.ok("server", "log", "-n", "1"))
    shell.ok("server", "backup", "copy")
    assert 'eval "$(wandb-submit server env --data copy)"' in shell.run("server", "start", "--data", "copy").stderr
    shell.ok("server", "stop", "--data", "copy")
    assert "exists already" in shell.run("server", "backup", "copy").stderr
    assert "is stopped" in shell.ok("server", "stop")
    assert shell.run("server", "status", "--json").returncode == 3
    wait_until(lambda: not alive(first["pid"]), what="its process has ended")


def test_the_key_is_shown_once_where_others_reach_the_server(shell: Shell) -> None:
    started = shell.run("server", "start", "--host", "0.0.0.0", "--crash-after", "100")
    (key,) = re.findall(r"^export WANDB_API_KEY=(\w{40,})$", started.stdout, re.M)
    assert "The key is shown this once" in started.stderr
    url = shell.json("server", "status")["url"]
    assert f"export WANDB_BASE_URL={url}\n" in started.stdout
    for _ in range(2):
        again = shell.run("server", "start")
        assert key not in again.stdout + again.stderr
        assert url in again.stdout
        shell.ok("server", "stop")
    assert key not in shell.ok("server", "log")
    shell.ok("server", "start")
    assert f"export WANDB_API_KEY={key}\n" in shell.ok("server", "env")
    refused = shell.run("server", "start", "--host", "127.0.0.1")
    assert refused.returncode == 6
    assert "with --host 0.0.0.0 and not 127.0.0.1: stop it first" in refused.stderr


def test_a_cold_start_that_is_known_beforehand_is_told(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="cold", command=["sh", "-c", "exit"], parameters={"x": {"values": [1, 2]}})
    options = ("--offline", "--executor", "local", "--array", "1", "--count", "1", "--preload", "json")
    says = "note: --preload: runs will start cold: the sweep's command is not of the form"
    assert says in offline_shell.run(sweep, *options, "--dry-run").stderr
    done = offline_shell.run(sweep, *options, "--json")
    assert says in done.stderr
    known = json.loads(done.stdout)["sweep"]
    assert re.search(r"^submission \w+: 1 agent, local job \w+_0$", done.stderr, re.M)
    assert says in offline_shell.run(known, *options, "--dry-run").stderr


def test_tables_in_a_pipe_are_plain_lines(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="plain", parameters={"x": {"values": [1, 2]}})
    offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "1")
    for command in ("status", "logs"):
        shown = offline_shell.ok(command, FORCE_COLOR="1")
        assert not re.search(r" $|\x1b|\u2501", shown, re.M), shown
