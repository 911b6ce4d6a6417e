"""What shells complete, asked as their start-up lines ask."""

from __future__ import annotations

import pytest
from support import Shell


def completed(shell: Shell, words: str) -> list[str]:
    """What bash is offered for the last of some words."""
    number = str(len(words.split(" ")) - 1)
    done = shell.call("wandb-submit", COMP_WORDS=words, COMP_CWORD=number, _WANDB_SUBMIT_COMPLETE="bash_complete")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("wandb-submit ca", ["plain,cancel"]),
        ("wandb-submit sub/swe", ["file,sub/swe"]),
        ("wandb-submit --gp", ["plain,--gpus-per-task", "plain,--gpu-ids"]),
        ("wandb-submit sweep.yaml --exec", ["plain,--executor"]),
        ("wandb-submit sweep.yaml --executor l", ["plain,local"]),
        ("wandb-submit sweep.yaml --template sing", ["plain,single-gpu"]),
        ("wandb-submit sweep.yaml --template ./my", ["file,./my"]),
        ("wandb-submit submit swe", ["file,swe"]),
        ("wandb-submit server st", ["plain,start", "plain,status", "plain,stop"]),
    ],
)
def test_commands_options_and_values_are_completed(shell: Shell, words: str, offered: list[str]) -> None:
    assert completed(shell, words) == offered


def test_bash_offers_commands_and_sweep_files_for_the_first_word(shell: Shell) -> None:
    for name in ("sweep.yaml", "start.yml", "train.py"):
        (shell.folder / name).touch()
    asked = 'eval "$(wandb-submit completion bash)"; COMP_WORDS=(wandb-submit s) COMP_CWORD=1'
    done = shell.call("bash", "-c", f'{asked}; _wandb_submit_completion wandb-submit; echo "${{COMPREPLY[@]}}"')
    assert done.stdout.split() == ["submit", "status", "server", "sync", "start.yml", "sweep.yaml"], done.stderr


def test_partitions_are_slurms(shell: Shell) -> None:
    program = shell.folder / "sinfo"
    program.write_text("#!/bin/sh\necho 'gpu|gpu*|1:00:00|1:00:00|16|64000|gpu:4|(null)'\n")
    program.chmod(0o755)
    on_path = Shell(folder=shell.folder, env={**shell.env, "PATH": f"{shell.folder}:{shell.env['PATH']}"})
    assert completed(on_path, "wandb-submit x -p ") == ["plain,gpu"]


def test_submissions_and_runs_are_completed(shell: Shell) -> None:
    sweep = shell.sweep("import wandb\nwandb.init().finish()", parameters={"x": {"values": [1]}})
    ended = shell.json(sweep, "--offline", "--executor", "local")
    (started,) = shell.events(ended["id"], "run_started")
    own = f"plain,{ended['id']}"
    assert completed(shell, "wandb-submit status ")[0] == own
    assert completed(shell, f"wandb-submit cancel {ended['id'][:2]}")[0] == own
    assert completed(shell, f"wandb-submit logs {ended['id']} ") == [f"plain,{started['run']}"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_each_shell_gets_lines_for_its_start_up_file(shell: Shell, name: str) -> None:
    assert "_WANDB_SUBMIT_COMPLETE" in shell.ok("completion", name)


def test_an_unknown_shell_is_refused(shell: Shell) -> None:
    done = shell.run("completion", "tcsh")
    assert done.returncode == 2
    assert "bash" in done.stderr
