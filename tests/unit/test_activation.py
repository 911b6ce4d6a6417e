"""The environment of a task's runs: what is refused, and what the shell makes of what is not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from unit.conftest import Program

from wandb_submit.errors import ConfigError
from wandb_submit.executors import activation
from wandb_submit.options.build import build_spec
from wandb_submit.options.table import Options
from wandb_submit.spec import Activation
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system.process import take_environment_of_shell

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def paths(tmp_path: Path) -> SubmissionPaths:
    """A submission in a folder that a shell would take apart."""
    folder = tmp_path / """it's "my" $HOME; `id`""" / "abc234"
    folder.mkdir(parents=True)
    return SubmissionPaths(folder)


def read(workdir: Path = Path("/w"), **values: Any) -> Activation:
    spec = build_spec(
        Options(**values), workdir=workdir, pick_executor=lambda _: "local", default_array=lambda spec: spec.array
    )
    return spec.activation


def in_shell(active: Activation, paths: SubmissionPaths, then: str) -> subprocess.CompletedProcess[str]:
    activation.write_python(active, paths)
    lines = [*activation.lines_before(active, paths), then]
    return subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=False)


def test_nothing_asked_for_is_nothing_done(paths: SubmissionPaths) -> None:
    active = read()
    assert not active
    assert activation.lines_before(active, paths) == activation.lines_after(active) == []
    activation.write_python(active, paths)
    assert not paths.bin.exists()


@pytest.mark.parametrize("value", ["plain", "a b", "it's", '"$HOME" `id` $(id)', "two\nlines", "", "*", "é"])
def test_a_variables_value_arrives_as_it_is(value: str, paths: SubmissionPaths) -> None:
    done = in_shell(read(env={"THE_VALUE": value}), paths, 'printf %s "$THE_VALUE"')
    assert (done.returncode, done.stdout, done.stderr) == (0, value, "")


def test_setup_sees_the_variables_and_later_commands_see_earlier_ones(paths: SubmissionPaths) -> None:
    active = read(env={"NAME": "x"}, setup=['export A="$NAME"1', "B=${A}2", "if true\nthen export C=${B}3\nfi # done"])
    assert in_shell(active, paths, 'echo "$C"').stdout == "x123\n"


def test_a_command_that_fails_ends_the_task_with_its_status_and_number(paths: SubmissionPaths) -> None:
    done = in_shell(read(setup=["false || true # as it should", "(exit 7)", "echo never"]), paths, "echo never")
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "wandb-submit: command 2 of setup failed with exit status 7\n"


@pytest.mark.parametrize(
    ("setup", "status", "number"),
    [
        (["true", "set -eu", "false\ntrue"], 1, 3),
        (["true", "exit 3"], 3, 2),
        (["exit"], 1, 1),
        (["set -u", 'echo "$NOT_SET_BY_ANYBODY"'], 1, 2),
        (["trap 'echo theirs' EXIT", "(exit 4)"], 4, 2),
    ],
    ids=["errexit", "exit", "exit well", "nounset", "trap of its own"],
)
def test_a_command_that_ends_the_shell_is_named(
    setup: list[str], status: int, number: int, paths: SubmissionPaths
) -> None:
    done = in_shell(read(setup=setup), paths, "echo never")
    assert done.returncode in (status, 127)  # nounset is 127 in some versions of bash, 1 in others
    assert "never" not in done.stdout
    ended = done.returncode if setup != ["exit"] else 0
    assert done.stderr.splitlines()[-1] == f"wandb-submit: command {number} of setup failed with exit status {ended}"


def test_what_a_setup_has_set_does_not_end_what_follows(paths: SubmissionPaths) -> None:
    done = in_shell(read(setup=["set -eu"]), paths, 'false; echo "$NOT_SET_BY_ANYBODY" on; exit 5')
    assert (done.returncode, done.stdout, done.stderr) == (5, " on\n", "")


@pytest.mark.parametrize("command", ["echo 'open", "if true", "fi", "(cd x", "echo $(", ""])
@pytest.mark.parametrize("key", ["setup", "teardown"])
def test_what_is_no_whole_command_is_refused_by_its_text(command: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"--{key} .*is not a (whole )?shell command") as caught:
        read(**{key: ["true", command]})
    assert repr(command) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_API_KEY", "x" * 12),
        ("HF_TOKEN", "hf_abc"),
        ("AWS_SECRET_ACCESS_KEY", "abc"),
        ("db_password", "abc"),
        ("INNOCENT", KEY),
        ("INNOCENT", f"local-{KEY}"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(name: str, value: str) -> None:
    for values in ({"env": {name: value}}, {"setup": [f"export {name}={value}"]}, {"setup": [f"{name}='{value}' run"]}):
        with pytest.raises(ConfigError, match="looks like a secret") as caught:
            read(**values)
        assert name in str(caught.value)
        assert value not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MAX_TOKEN", "512"),
        ("WANDB_IDENTITY_TOKEN_FILE", "/run/token"),
        ("SORT_KEY", "loss"),
        ("WANDB_API_KEY", ""),
    ],
)
def test_what_only_sounds_like_a_secret_is_none(name: str, value: str) -> None:
    assert read(env={name: value}).env == {name: value}


def test_a_secret_may_be_read_from_somewhere() -> None:
    commands = ('export WANDB_API_KEY="$(cat ~/.key)"', "export HF_TOKEN=$MY_TOKEN", "export X_TOKEN=`cat t`")
    assert read(setup=list(commands)).setup == commands


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CUDA_VISIBLE_DEVICES", "--gpus-per-task"),
        ("ROCR_VISIBLE_DEVICES", "--gpus-per-task"),
        ("SLURM_JOB_ID", "Slurm sets it"),
        ("WANDB_RUN_ID", "every run gets its own"),
        ("1X", "not the name of a variable"),
        ("A-B", "not the name of a variable"),
    ],
)
def test_variables_that_are_not_for_us_to_set_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read(env={name: "1"})


def test_all_problems_are_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        read(env={"A B": "1", "NONE": None}, setup=["("], teardown=[")"], python=" ")
    assert len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize("given", ["x", ["A=1"]])
def test_variables_are_a_mapping(given: object) -> None:
    with pytest.raises(ConfigError, match="is not a mapping of variables"):
        read(env=given)


def environment_of_python(folder: Path, name: str = "python") -> Path:
    """A folder like an environment's `bin`, with an interpreter and a program beside it."""
    for program in (name, "torchrun"):
        (folder / program).parent.mkdir(parents=True, exist_ok=True)
        (folder / program).write_text(f'#!/bin/sh\necho "{program} of {folder.name}" "$@"\n')
        (folder / program).chmod(0o755)
    return folder / name


@pytest.mark.parametrize("name", ["python", "python3.11"])
def test_an_interpreters_folder_is_first_on_path(name: str, paths: SubmissionPaths, tmp_path: Path) -> None:
    interpreter = environment_of_python(tmp_path / "env", name)
    done = in_shell(read(python=str(interpreter)), paths, "python -c '1 2'; torchrun")
    assert done.stdout == f"{name} of env -c 1 2\ntorchrun of env\n", done.stderr
    assert paths.bin.exists() == (name != "python")


def test_a_relative_interpreter_starts_from_where_one_submits(paths: SubmissionPaths, tmp_path: Path) -> None:
    environment_of_python(tmp_path / ".venv" / "bin")
    done = in_shell(read(tmp_path, python=".venv/bin/python"), paths, "cd / && python")
    assert done.stdout == "python of bin\n"


def test_a_home_folder_is_understood(home: Path, paths: SubmissionPaths) -> None:
    environment_of_python(home / "env")
    assert in_shell(read(python="~/env/python"), paths, "python").stdout == "python of env\n"


def test_a_command_stands_for_python_and_may_call_it(
    program: Program, paths: SubmissionPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("apptainer", 'echo "$@"; shift 2; "$@"')
    program("python", 'echo "inner $@"')
    monkeypatch.setenv("IMAGE", "an image")
    done = in_shell(read(python='apptainer exec "$IMAGE" python'), paths, "python 'a b' c; python3 d")
    assert done.stdout.splitlines() == [
        *("exec an image python a b c", "inner a b c"),
        *("exec an image python d", "inner d"),
    ]


def test_a_shells_environment_becomes_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPPED", "1")
    before = dict(os.environ)
    try:
        assert take_environment_of_shell(["unset DROPPED", "export KEPT='a\nb'", "sleep 3 & echo said >&2"]) == 0
        assert os.environ["KEPT"] == "a\nb"
        assert "DROPPED" not in os.environ
        changed = dict(os.environ)
        assert take_environment_of_shell(["export LOST=1", "exit 3"]) == 3
        assert dict(os.environ) == changed
    finally:
        os.environ.clear()
        os.environ.update(before)
