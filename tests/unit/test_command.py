"""Our command lines and files against those of the installed `wandb`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb.wandb_agent
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wandb.sdk.launch.sweeps import utils as stock
from wandb.sdk.lib.config_util import save_config_file_from_dict

from wandb_submit.agent.runs import command as ours
from wandb_submit.agent.runs.command import RunFiles
from wandb_submit.errors import ConfigError
from wandb_submit.spec import SweepRef

MACROS = (
    "env",
    "interpreter",
    "program",
    "args",
    "args_no_equals",
    "args_no_hyphens",
    "args_no_boolean_flags",
    "args_append_hydra",
    "args_override_hydra",
    "args_json",
    "args_json_file",
)
VARIABLES = {"SET": "a value", "EMPTY": "", "LIKE_A_MACRO": "${args}", "NESTED": "${envvar:SET}", "X_1": "'\"$HOME"}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
hostile = st.sampled_from(
    ["a b", "it's", '"quoted"', "$HOME", "--x=1", "", "\n", "é", "\N{GRINNING FACE}", "null", "yes"]
)
scalars = st.sampled_from([None, True, False, 0, 1, 0.0, 1.0, 1e-5]) | st.integers() | st.floats() | hostile | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["lr", "batch_size", "model.depth", "with blank"]) | texts
arguments = st.dictionaries(names, st.builds(lambda value: {"value": value}, values), max_size=5)
elements = (
    st.sampled_from([f"${{{macro}}}" for macro in MACROS])
    | st.sampled_from([f"${{envvar:{name}}}" for name in (*VARIABLES, "NOT_SET", "")])
    | st.sampled_from(["--a=${envvar:SET}", "${envvar:SET}${envvar:X_1}", "${envvar:lower}", "x${args}", "${args} "])
    | st.sampled_from(["${unknown}", "${}", "$", "python", "-m", "a b", 3, 0.5, True, None])
    | texts
)
commands = st.lists(elements, min_size=1, max_size=6)


class RecordingProcess:
    """Takes the place of the process that the stock agent would start."""

    last: RecordingProcess

    def __init__(self, *, command: list[str], env: dict[str, str], **_: object) -> None:
        self.command, self.env = command, env
        RecordingProcess.last = self


@pytest.fixture(autouse=True, scope="module")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb.wandb_agent, "AgentProcess", RecordingProcess)
        yield


def stock_agent(
    folder: Path, command: list[Any] | None, program: str | None, args: dict[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """Lets the stock agent obey one order; returns the command line and environment that it would start."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**VARIABLES, "WANDB_DIR": str(folder), "WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "-"}.items():
            patch.setenv(name, value)
        patch.setenv("WANDB_SWEEP_PARAM_PATH", "-")
        patch.delenv("NOT_SET", raising=False)
        agent = wandb.wandb_agent.Agent(api=None, queue=None)
        agent._in_jupyter = False
        if command:
            agent._sweep_command = list(command)
        agent._command_run({"type": "run", "run_id": "r1", "program": program, "args": args})
    return RecordingProcess.last.command, RecordingProcess.last.env


def our_argv(files: RunFiles, command: list[Any] | None, program: str | None, args: dict[str, Any]) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        patch.delenv("NOT_SET", raising=False)
        params = ours.parameters(args)
        ours.write_files(files, args, params, command or ())
        return ours.build_argv(command, program, params, files)


@settings(max_examples=150)
@given(command=commands, args=arguments)
@example(command=["${env}", "${interpreter}", "${program}", "${args}"], args={})
@example(command=["${env}", "${args_json_file}", "${args_json}"], args={"a": {"value": float("nan")}})
@example(
    command=["${args_no_boolean_flags}", "x"],
    args={
        "on": {"value": True},
        "off": {"value": False},
        "one": {"value": 1},
        "zero": {"value": 0},
        "none": {"value": None},
    },
)
def test_command_line_and_files_are_those_of_the_stock_agent(
    command: list[Any], args: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    files = RunFiles.of(str(folder), "s1", "r1")

    theirs, _ = stock_agent(folder, command, "train.py", args)
    their_config = files.config.read_bytes()
    their_json = files.args_json.read_bytes() if files.args_json.exists() else None
    files.config.unlink()
    files.args_json.unlink(missing_ok=True)

    if not theirs:
        with pytest.raises(ConfigError, match="leaves nothing to execute"):
            our_argv(files, command, "train.py", args)
        return
    assert our_argv(files, command, "train.py", args) == theirs
    assert files.config.read_bytes() == their_config
    assert (files.args_json.read_bytes() if files.args_json.exists() else None) == their_json


@pytest.mark.parametrize("command", [None, []])
def test_without_a_command_the_default_is_the_stock_agents(command: list[Any] | None, tmp_path: Path) -> None:
    args = {"lr": {"value": 0.1}, "flag": {"value": False}}
    files = RunFiles.of(str(tmp_path), "s1", "r1")
    theirs, _ = stock_agent(tmp_path, command, "train.py", args)
    assert our_argv(files, command, "train.py", args) == theirs
    assert theirs == ["/usr/bin/env", "python", "train.py", "--lr=0.1", "--flag=False"]


@settings(max_examples=100)
@given(args=arguments)
def test_every_macro_of_parameters_is_the_stock_agents(args: dict[str, Any]) -> None:
    theirs = stock.create_sweep_command_args({"args": args})
    mine = ours.macros("train.py", ours.parameters(args), RunFiles.of("", "s1", "r1"))
    shared = set(theirs) - {"args_dict"}  # not a list of arguments, and not documented
    assert {name: mine[name] for name in shared} == {name: theirs[name] for name in shared}


@settings(max_examples=100)
@given(command=commands)
def test_environment_variables_are_put_in_as_the_stock_agent_puts_them_in(command: list[Any]) -> None:
    plain = [element for element in command if not (str(element).startswith("${") and str(element).endswith("}"))]
    files = RunFiles.of("", "s1", "r1")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        theirs = [str(element) for element in stock.create_sweep_command(["x", *plain])]
        assert ours.build_argv(["x", *plain], None, {}, files) == theirs


@settings(max_examples=100)
@given(args=st.dictionaries(texts, st.fixed_dictionaries({"desc": st.none() | texts, "value": values}), max_size=4))
def test_the_configuration_file_is_byte_for_byte_the_stock_agents(
    args: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("config")
    save_config_file_from_dict(str(folder / "theirs.yaml"), args)
    files = RunFiles(config=folder / "ours.yaml", args_json=folder / "ours.json")
    ours.write_files(files, args, ours.parameters(args), ())
    assert files.config.read_bytes() == (folder / "theirs.yaml").read_bytes()


def test_a_run_finds_itself_where_the_stock_agent_would_have_put_it(tmp_path: Path) -> None:
    _, theirs = stock_agent(tmp_path, None, "train.py", {})
    mine = ours.build_environment(
        {},
        sweep=SweepRef(entity="me", project="vision", id="s1", base_url="https://x"),
        run_id="r1",
        files=RunFiles.of(str(tmp_path), "s1", "r1"),
        wandb_dir=str(tmp_path),
        server={},
    )
    shared = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_DIR")
    assert {name: mine[name] for name in shared} == {name: theirs[name] for name in shared}
    assert (mine["WANDB_ENTITY"], mine["WANDB_PROJECT"]) == ("me", "vision")


def test_a_trial_inherits_its_devices_but_not_the_agents_own_job() -> None:
    base = {"CUDA_VISIBLE_DEVICES": "3", "SUBMITIT_EXECUTOR": "slurm", "WANDB_SERVICE": "x", "WANDB_RUN_ID": "old"}
    environment = ours.build_environment(
        ours.clean_environment(base),
        sweep=SweepRef(entity="e", project="p", id="s", base_url="https://x"),
        run_id="r1",
        files=RunFiles.of("/d", "s", "r1"),
        wandb_dir="/d",
        server={"WANDB_BASE_URL": "https://x"},
    )
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment["WANDB_RUN_ID"] == "r1"
    assert environment["WANDB_BASE_URL"] == "https://x"
    assert "WANDB_SERVICE" not in environment
    assert "SUBMITIT_EXECUTOR" not in environment


@pytest.mark.parametrize("args", [{"lr": {}}, {"lr": None}, {"lr": 0.1}, {"lr": [1]}])
def test_parameters_without_a_value_are_refused_with_what_was_sent(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ours.parameters(args)
    assert json.dumps(args) in str(caught.value)


def test_a_sweep_without_a_program_gives_its_place_to_nothing() -> None:
    argv = ours.build_argv(["./run", "${program}", "${args}"], None, {"a": 1}, RunFiles.of("", "s", "r"))
    assert argv == ["./run", "--a=1"]


def test_a_variable_of_the_agents_environment_reaches_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data set")
    argv = ours.build_argv(["x", "--data=${envvar:DATA}", "${envvar:GONE}"], None, {}, RunFiles.of("", "s", "r"))
    assert argv == ["x", "--data=/data set", "GONE"]
    assert "GONE" not in os.environ
