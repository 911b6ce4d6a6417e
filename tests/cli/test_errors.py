"""Bad input: one clear line, the right exit status, nothing left behind, and no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from support import Shell

SWEEP = {"parameters": {"x": {"values": [1, 2]}}}


def fails(shell: Shell, *arguments: str, status: int, says: str, **env: str) -> str:
    """Runs a command that must fail with one message, and must leave the folder as it was."""
    before = sorted(shell.folder.rglob("*"))
    done = shell.run(*arguments, **env)
    message = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("note: "))
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert says in message
    assert message.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert sorted(shell.folder.rglob("*")) == before
    return message


def test_an_unknown_sweep(offline_shell: Shell) -> None:
    message = fails(offline_shell, "nosuch12", "--offline", "--executor", "local", status=3, says="no sweep local/")
    assert "/nosuch12 at http://127.0.0.1:" in message


def test_a_sweep_of_w_and_b_is_not_on_the_offline_server(offline_shell: Shell) -> None:
    url = "https://wandb.ai/me/vision/sweeps/abc"
    fails(offline_shell, url, "--offline", "--executor", "local", status=2, says="leave --offline out")


@pytest.mark.parametrize("sweep", ["sweep.yaml", "me/vision/abc"])
def test_not_logged_in(shell: Shell, sweep: str) -> None:
    shell.sweep("pass", **SWEEP)
    env = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    message = fails(shell, sweep, "--executor", "local", status=4, says="not logged in to W&B", **env)
    assert "wandb login" in message
    assert "--offline" in message


def test_a_login_that_the_server_refuses(offline_shell: Shell) -> None:
    url = offline_shell.json("server", "status")["url"]
    env = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}
    message = fails(offline_shell, "me/vision/abc", "--executor", "local", status=4, says="login", **env)
    assert "0" * 40 not in message


def test_a_server_that_does_not_answer(shell: Shell) -> None:
    env = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    fails(shell, "me/vision/abc", "--executor", "local", status=5, says="http://127.0.0.1:9", **env)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method: grid\nparameters: [", "line 2"),
        ("- a\n- b\n", "holds a list"),
        ("", "holds nothing"),
        ("program: train.py\n", "lacks `method:`"),
        ("method: grid\nprogram: train.py\n", "lacks `parameters:`"),
        ("method: grid\nparameters: {x: {values: [1]}}\n", "lacks `program:`"),
    ],
)
def test_a_malformed_sweep_file(shell: Shell, text: str, says: str) -> None:
    (shell.folder / "bad.yaml").write_text(text)
    fails(shell, "bad.yaml", "--offline", "--executor", "local", status=2, says=says)


def test_a_sweep_file_that_the_server_refuses_names_the_problem(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="odd", parameters={"x": {"distribution": "nope", "min": 1}})
    done = offline_shell.run(sweep, "--offline", "--executor", "local")
    assert done.returncode == 2, done.stderr
    assert "does not accept odd.yaml" in done.stderr
    assert not list((offline_shell.folder / ".wandb-submit").glob("*/submission.json"))


def test_a_sweep_file_that_is_not_there(shell: Shell) -> None:
    fails(shell, "missing.yaml", "--offline", status=3, says="no sweep file missing.yaml")


def test_an_ended_sweep(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="ended", parameters={"x": {"value": 1}})
    answer = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1")
    fails(offline_shell, answer["sweep"], "--offline", "--executor", "local", status=6, says="is finished")


def test_more_gpus_than_there_are(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    options = ("--offline", "--executor", "local", "--gpus-per-task", "3")
    fails(shell, sweep, *options, status=6, says="this machine has: 2 GPUs", CUDA_VISIBLE_DEVICES="0,1")


def test_more_cores_than_there_are(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    fails(shell, sweep, "--offline", "--executor", "local", "--cpus-per-task", "9999", status=6, says="usable cores")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--detach", "--wait"), "--wait: --detach says the opposite. Give one of them."),
        (("--wait", "--detach", "--dry-run"), "--wait: --detach says the opposite"),
        (("--time", "25:61:00"), "--time '25:61:00': there are 60 s in a minute"),
        (("--time", "5m"), "--time '5m' is not a time: write 0:05:00"),
        (("--grace", "5x"), "--grace '5x' is not a number of seconds"),
        (("--min-time-per-run", "2h"), "--min-time-per-run '2h' is not a time: write 2:00:00"),
        (("--mem", "16Gi"), "--mem '16Gi' is not a memory size: write 16G"),
    ],
)
def test_a_time_or_size_that_is_none(shell: Shell, options: tuple[str, ...], says: str) -> None:
    done = shell.run(shell.sweep("pass", **SWEEP), "--offline", "--executor", "local", *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shell.folder / ".wandb-submit").exists()


def test_a_grace_may_have_a_unit(shell: Shell) -> None:
    shell.ok(shell.sweep("pass", **SWEEP), "--offline", "--executor", "local", "--grace", "5m", "--dry-run")
    done = shell.run("server", "start", "--crash-after", "soon")
    assert done.returncode == 2
    assert "--crash-after 'soon' is not a number of seconds" in done.stderr


@pytest.mark.parametrize("python", ["/no/such/python", "nosuchcmd python", "/tmp"])
@pytest.mark.parametrize("more", [(), ("--preload", "numpy"), ("--dry-run",)], ids=["", "preload", "dry run"])
def test_a_python_that_is_not_there(python: str, more: tuple[str, ...], shell: Shell) -> None:
    sweep = shell.sweep("", **SWEEP)
    options = (sweep, "--offline", "--executor", "local", "--python", python, *more)
    assert "name the interpreter" in fails(shell, *options, status=2, says=f"--python {python!r}: ")


def test_a_python_of_a_template_that_is_not_there(shell: Shell) -> None:
    sweep = shell.sweep("", **SWEEP)
    (shell.folder / "mine.yaml").write_text("python: /no/such/python\n")
    options = (sweep, "--offline", "--executor", "local", "--template", "mine.yaml")
    fails(shell, *options, status=2, says="runs' environment (in the template mine.yaml)")


def test_no_slurm(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    path = f"{Path(subprocess.check_output(['which', 'env'], text=True).strip()).parent}"
    bare = shell.folder.parent / "bare-path"
    bare.mkdir()
    for program in ("wandb-submit", "python"):
        found = subprocess.check_output(["which", program], text=True, env=dict(shell.env)).strip()
        (bare / program).symlink_to(found)
    assert path
    fails(shell, sweep, "--offline", "--executor", "slurm", status=6, says="no Slurm here", PATH=str(bare))


def test_a_folder_that_cannot_be_written_to(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    (shell.folder / "in-the-way").write_text("")
    target = str(shell.folder / "in-the-way" / "below")
    fails(shell, sweep, "--offline", "--executor", "local", status=2, says="cannot write to", WANDB_SUBMIT_DIR=target)
    fails(shell, "server", "start", status=2, says="cannot write to", WANDB_SUBMIT_DIR=target)


def test_all_problems_of_the_options_are_in_one_message(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    options = ("--array", "x", "--time", "soon", "--mem", "much", "--sbatch", "output=x", "--executor", "moon")
    message = fails(shell, sweep, "--offline", *options, status=2, says="--array 'x'")
    for words in ("--time 'soon'", "--mem 'much'", "--sbatch output", "--executor 'moon'"):
        assert words in message


@pytest.mark.parametrize("arguments", [("status",), ("logs",), ("wait",), ("cancel", "abc"), ("status", "abc")])
def test_commands_without_a_submission(shell: Shell, arguments: tuple[str, ...]) -> None:
    fails(shell, *arguments, status=3, says="no submissions in")


def test_an_unknown_submission_run_or_task(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="known", parameters={"x": {"value": 1}})
    known = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1")["id"]
    fails(offline_shell, "status", "!!", status=3, says=known)
    fails(offline_shell, "logs", known, "zzz", status=3, says="has no run 'zzz'")
    fails(offline_shell, "logs", known, "--task", "7", status=3, says="0-0, not 7")


@pytest.mark.parametrize("arguments", [("server", "status"), ("server", "env")])
def test_no_server(shell: Shell, arguments: tuple[str, ...]) -> None:
    fails(shell, *arguments, status=3, says="start it with `wandb-submit server start`")
    fails(shell, *arguments, "--data", "another one", status=3, says="`wandb-submit server start --data 'another one'`")


def test_unknown_options_and_templates(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    assert shell.run(sweep, "--gpu-per-task", "1").returncode == 2
    fails(shell, sweep, "--offline", "--template", "single-gpus", status=3, says="did you mean 'single-gpu'?")
    (shell.folder / "site.yaml").write_text("time: soon\n")
    says = "--time 'soon' is not a time: write minutes, H:MM:SS or D-HH:MM:SS (in the template site.yaml)"
    fails(shell, sweep, "--offline", "--template", "site.yaml", status=2, says=says)


def test_debug_shows_the_traceback(shell: Shell) -> None:
    done = shell.run("--debug", "status")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "NotFoundError" in done.stderr


def test_a_full_disk_is_a_message_and_leaves_nothing(shell: Shell, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test mounts a small file system, which takes root")
    sweep = shell.sweep("pass", **SWEEP)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    try:
        (small / "filler").write_bytes(b"x" * 12288)
        done = shell.run(sweep, "--offline", "--executor", "local", WANDB_SUBMIT_DIR=str(small / "home"))
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "disk full" in done.stderr or "No space left" in done.stderr
        assert not list((small / "home").glob("*/submission.json"))
    finally:
        shell.run("server", "stop", WANDB_SUBMIT_DIR=str(small / "home"))
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_in_which_runs_report_nothing(shell: Shell, mode: str) -> None:
    fails(shell, "me/vision/abc", "--executor", "local", status=2, says=f"WANDB_MODE={mode}", WANDB_MODE=mode)


@pytest.mark.parametrize("url", ["foo", "ftp://x", "http://[bad"])
def test_an_odd_address_of_the_server(shell: Shell, url: str) -> None:
    done = shell.run("me/vision/abc", "--executor", "local", WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40)
    assert done.returncode in (2, 5), done.stderr
    assert "Traceback" not in done.stderr


def test_a_deleted_folder(shell: Shell) -> None:
    done = shell.call("sh", "-c", "mkdir gone && cd gone && rmdir ../gone && wandb-submit status")
    assert done.returncode == 3
    assert "has been deleted" in done.stderr


def test_a_limit_too_short_for_an_agent_to_hear_of_it(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    fails(shell, sweep, "--offline", "--executor", "local", "--time", "1", status=2, says="Ask for at least 3 minutes")


def test_a_server_that_was_started_for_nothing_is_stopped_again(shell: Shell) -> None:
    for _ in range(2):
        done = shell.run("abc12345", "--offline", "--executor", "local")
        assert done.returncode == 3, done.stderr
        assert "offline server" not in done.stderr
        assert shell.run("server", "status").returncode == 3


def test_a_server_that_was_started_for_a_sweep_that_it_refuses_is_stopped_again(shell: Shell) -> None:
    sweep = shell.sweep("pass", name="odd", parameters={"x": {"distribution": "nope", "min": 1}})
    done = shell.run(sweep, "--offline", "--executor", "local")
    assert done.returncode == 2, done.stderr
    assert "does not accept odd.yaml" in done.stderr
    assert shell.run("server", "status").returncode == 3
    shell.ok("server", "start")  # one that ran before stays
    assert shell.run(sweep, "--offline", "--executor", "local").returncode == 2
    shell.ok("server", "status")


def test_a_dry_run_for_a_sweep_that_no_server_knows_starts_none(shell: Shell) -> None:
    fails(shell, "abc12345", "--offline", "--executor", "local", "--dry-run", status=3, says="no offline server runs")


def test_one_unreadable_submission_hides_none_of_the_others(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="readable", parameters={"x": {"value": 1}})
    known = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1")["id"]
    broken = offline_shell.submission("broken")
    broken.mkdir()
    (broken / "submission.json").write_text("{")
    done = offline_shell.run("status", "--all", "--json")
    assert done.returncode == 0
    assert known in done.stdout
    assert "submission broken: cannot read" in done.stderr


def test_a_failed_run_makes_the_exit_status_one(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("raise SystemExit(3)", name="failing", parameters={"x": {"value": 1}})
    done = offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "1")
    assert done.returncode == 1
    assert "failed with exit status 3" in done.stderr


def test_a_failed_run_is_told_with_the_last_line_of_its_log(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("raise RuntimeError('as told')", name="raising", parameters={"x": {"value": 1}})
    done = offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "1")
    told = re.search(
        r"^run \w+ failed: RuntimeError: as told \(its log: (wandb-submit logs \w+ \w+)\)$", done.stderr, re.M
    )
    assert told, done.stderr
    assert "Traceback" in offline_shell.call(*told[1].split()).stdout


def test_a_command_with_a_slip_is_not_taken_for_a_sweep(shell: Shell) -> None:
    fails(shell, "statsu", status=2, says="did you mean status?")
    fails(shell, "submit", "ls", status=2, says="there is no command 'ls': did you mean status?")
    fails(shell, "--array", "4", "help", status=2, says="there is no command 'help': did you mean --help?")


def test_a_word_that_could_be_an_id_is_looked_up_and_then_called_a_word(offline_shell: Shell) -> None:
    words = "there is no command 'describe': did you mean status?"
    env = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    fails(offline_shell, "describe", status=4, says=words, **env)
    assert "no sweep" in fails(offline_shell, "describe", "--offline", "--executor", "local", status=3, says=words)
    (offline_shell.folder / "examples").mkdir()
    fails(offline_shell, "examples", status=4, says="examples is a folder here", **env)


@pytest.mark.parametrize("form", ["{id}", "tests/{id}", "local/tests/{id}", "{url}/local/tests/sweeps/{id}"])
def test_a_sweep_of_this_folders_server_is_known_without_offline(form: str, offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="here", parameters={"x": {"values": [1, 2]}})
    answer = offline_shell.json(sweep, "--offline", "--executor", "local", "--array", "1", "--count", "1")
    known = answer["sweep"].rpartition("/")[2]
    named = form.format(id=known, url=offline_shell.json("server", "status")["url"])
    says = f"the sweep local/tests/{known} is on this folder's offline server: add --offline"
    assert "not logged in" not in fails(offline_shell, named, "--executor", "local", status=2, says=says)
    env = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    fails(offline_shell, named, "--executor", "local", status=2, says=says, **env)
    fails(offline_shell, "me/other/" + known, "--executor", "local", status=4, says="not logged in")


def test_a_service_that_a_shell_has_inherited_is_nobodys_login(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="inherited", parameters={"x": {"value": 1}})
    stale = {"WANDB_SERVICE": "3-1-unix-/tmp/nowhere/socket"}
    answer = offline_shell.json(sweep, "--offline", "--executor", "local", **stale)
    assert answer["runs_done"] == 1
    data = json.loads((offline_shell.folder / ".wandb-submit/server/server.json").read_text())
    env = {"WANDB_BASE_URL": data["url"], "WANDB_API_KEY": data["api_key"], **stale}
    assert offline_shell.json(sweep, "--executor", "local", **env)["runs_done"] == 1


def test_a_program_that_is_not_there(shell: Shell) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    (shell.folder / "sweep.py").unlink()
    fails(shell, sweep, "--offline", "--executor", "local", status=3, says="sweep.yaml wants to run sweep.py")


@pytest.mark.parametrize("name", ["100%", "back\\slash", "two\nlines"])
@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_a_folder_whose_name_sbatch_would_not_take_as_it_is(shell: Shell, name: str, executor: str) -> None:
    sweep = shell.sweep("pass", **SWEEP)
    target = str(shell.folder / name)
    options = ("--offline", "--executor", executor)
    bare = shell.folder / "programs"
    bare.mkdir()
    for program in ("sbatch", "srun"):
        (bare / program).write_text("#!/bin/sh\n")
        (bare / program).chmod(0o755)
    path = f"{shell.env['PATH']}:{bare}"
    fails(shell, sweep, *options, status=2, says="WANDB_SUBMIT_DIR", WANDB_SUBMIT_DIR=target, PATH=path)
