"""Slips in sweep configurations: what is refused, what is warned of, and what is left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from wandb_submit.agent.runs.command import RunFiles, macros
from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.wandb_api import names
from wandb_submit.wandb_api.names import SweepFile
from wandb_submit.wandb_api.sweep_commands import MACROS, missing_script
from wandb_submit.wandb_api.sweep_configs import (
    DISTRIBUTIONS,
    KEYS,
    METRIC_KEYS,
    PARAMETER_KEYS,
    STOPPING_KEYS,
    remarks,
)

GOOD = """
program: train.py
method: bayes
metric: {name: val.loss, goal: minimize, target: 0.1, impute: worst, impute_while_running: latest}
early_terminate: {type: hyperband, min_iter: 3, eta: 2, strict: true}
command: ["${env}", python3, -u, "${program}", "${args_no_boolean_flags}", "--home=${envvar:HOME}", "${envvar:USER}"]
run_cap: 20
parameters:
  lr: {distribution: log_uniform_values, min: 1.0e-5, max: 0.1}
  optimizer: {values: [adam, sgd], probabilities: [0.5, 0.5]}
  text: {values: ["3", "0.1", e5, 1e, "12_000", v1.0, "2024-01-01"]}
  drop: {distribution: q_normal, mu: 0.5, sigma: 0.1, q: 0.05}
  model: {parameters: {depth: {value: 3}, width: {min: 1, max: 3}}}
"""


@pytest.fixture(autouse=True)
def _beside_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").touch()


def changed(text: str) -> dict[str, Any]:
    """The good configuration with other keys; `null` leaves one out."""
    return {key: value for key, value in {**yaml.safe_load(GOOD), **yaml.safe_load(text)}.items() if value is not None}


def test_nothing_is_said_of_a_good_configuration() -> None:
    said = remarks(yaml.safe_load(GOOD))
    assert (said.errors, said.warnings) == ([], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metric: {name: acc, goal: max}", "`metric.goal: max` does not exist: write maximize"),
        ("metric: {name: acc, goal: Maximize}", "`metric.goal: Maximize` does not exist: write maximize"),
        ("metric: {name: acc, goal: minimum}", "`metric.goal: minimum` does not exist: write minimize"),
        ("metric: {name: acc, goal: up}", "`metric.goal: up` does not exist: write minimize or maximize"),
        ("metric: {name: acc, goal: }", "`metric.goal: ` does not exist: write minimize or maximize"),
        ("metric: {name: acc, gaol: maximize}", "`metric.gaol` does not exist: write `goal: maximize`"),
        ("metric: {name: acc, mode: max}", "`metric.mode` does not exist: write `goal: maximize`"),
        ("metrics: [{name: a, goal: minimize}, {name: b, goal: Max}]", "`metrics[1].goal: Max` does not exist"),
        ("{goal: maximize, metric: {name: acc}}", "`goal:` belongs below `metric:`"),
        ("method: Grid", "`method: Grid` does not exist: did you mean grid?"),
        ("method: bayesian", "`method: bayesian` does not exist: did you mean bayes?"),
        ("method: hyperband", "`method: hyperband` does not exist: there are grid, random, bayes, custom"),
        ("parameters: {lr: {min: 1e-5, max: 0.1}}", "`lr.min: 1e-5` is a text in YAML: write 1.0e-5"),
        ("parameters: {lr: {min: 0.0, max: 1.5e3}}", "`lr.max: 1.5e3` is a text in YAML: write 1.5e+3"),
        (
            "parameters: {lr: {distribution: normal, mu: 2E-1, sigma: 1}}",
            "`lr.mu: 2E-1` is a text in YAML: write 2.0e-1",
        ),
        ("parameters: {lr: {distribution: normal, sigma: -1e5}}", "`lr.sigma: -1e5` is a text in YAML: write -1.0e+5"),
        ("parameters: {lr: {min: '0.1', max: 1.0}}", "`lr.min: '0.1'` is a text: write it without quotes"),
        ("parameters: {m: {parameters: {lr: {min: 1e-5, max: 1.0}}}}", "`m.lr.min: 1e-5` is a text in YAML"),
        (
            "command: python train.py ${args}",
            '`command:` is a text: write a list, [python, train.py, "${args}"]',
        ),
        ("command: {python: train.py}", "`command:` is not a list"),
        ("command: [python: train.py]", "`command:` has an element that is not a text: {'python': 'train.py'}"),
        ("program: [train.py]", "`program:` is not a text"),
    ],
)
def test_what_cannot_come_out_as_it_was_meant_is_refused(text: str, words: str) -> None:
    assert [error for error in remarks(changed(text)).errors if error.startswith(words)]
    with pytest.raises(ConfigError) as raised:
        names.parse(changed(text))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("comand: [a]", "`comand:` does not exist: did you mean `command:`?"),
        ("Parameters: {}", "`Parameters:` does not exist: did you mean `parameters:`?"),
        ("runcap: 3", "`runcap:` does not exist: did you mean `run_cap:`?"),
        ("early_stop: 3", "`early_stop:` does not exist: did you mean `early_terminate:`?"),
        ("args_no_hyphens: True", "`args_no_hyphens:` is not a key: to change how runs get their parameters"),
        ("metric: {name: a, imput: best}", "`metric.imput:` does not exist: did you mean `impute:`?"),
        ("metric: {name: a, foo: 1}", "`metric.foo:` does not exist: there are name, goal, "),
        ("metric: {name: a, target: 1e-3}", "`metric.target: 1e-3` is a text in YAML: write 1.0e-3"),
        ("run_cap: 1e3", "`run_cap: 1e3` is a text in YAML: write 1.0e+3"),
        ("early_terminate: hyperband", "`early_terminate:` is not a mapping: write"),
        ("early_terminate: {type: median, min_iter: 1}", "`early_terminate.type: median` does not exist: W&B"),
        ("early_terminate: {type: hyperband, min_iters: 1}", "`early_terminate.min_iters:` does not exist: did you"),
        ("early_terminate: {type: hyperband}", "`early_terminate:` lacks `min_iter:`"),
        ("metric: null", "`early_terminate:` compares runs by `metric:`, which is missing"),
        ("parameters: {a: {vales: [1], value: 1}}", "`a.vales:` does not exist: did you mean `values:`?"),
        ("parameters: {a: {value: 1, foo: 1}}", "`a.foo:` does not exist: there are value, values, "),
        (
            "parameters: {a: {distribution: loguniform-values, min: 1, max: 2}}",
            "`a.distribution: loguniform-values` does not exist: did you mean log_uniform_values?",
        ),
        ("parameters: {a: {values: [0.1, 1e-2]}}", "`a.values: 1e-2` is a text in YAML: write 1.0e-2"),
        ("parameters: {a: {value: 3e4}}", "`a.value: 3e4` is a text in YAML: write 3.0e+4"),
        ("command: ['${program}', '${argz}']", "`${argz}` in `command:` stands for nothing: did you mean `${args}`?"),
        ("command: ['${env:HOME}']", "`${env:HOME}` in `command:` stands for nothing: an environment variable is"),
        ("command: ['${HOME}']", "`${HOME}` in `command:` stands for nothing: an environment variable is `${envvar:HO"),
        (
            "command: ['${envvar:home}']",
            "`${envvar:home}` in `command:` stands for nothing: an environment variable is",
        ),
        ("command: ['${ args }']", "`${ args }` in `command:` stands for nothing: did you mean `${args}`?"),
        ("command: [python, $args]", "`$args` in `command:` is no macro: did you mean `${args}`?"),
        ("command: [python, '{args}']", "`{args}` in `command:` is no macro: did you mean `${args}`?"),
        ("command: ['python train.py ${args}']", "`${args}` in `command:` is only replaced where it stands alone"),
        ("command: ['--home=${env:HOME}']", "'--home=${env:HOME}' in `command:` stays as it is"),
        ("command: [pyhton, '${program}']", "`command:` executes pyhton, which is not on PATH here"),
        (
            "command: [/nowhere/python, '${program}']",
            "`command:` executes /nowhere/python, which is no executable file",
        ),
        ("command: ['${env}', ./run.sh]", "`command:` executes ./run.sh, which is no executable file here"),
    ],
)
def test_what_probably_will_not_is_warned_of(text: str, words: str) -> None:
    said = remarks(changed(text))
    assert said.errors == []
    assert [warning for warning in said.warnings if warning.startswith(words)], said.warnings
    found = names.parse(changed(text))
    assert isinstance(found, SweepFile)
    assert found.warnings == tuple(f"the given configuration: {warning}" for warning in said.warnings)


@pytest.mark.parametrize(
    "text",
    [
        "foo: 1",  # its server will tell
        "command: [bash, -c, 'cd x && ${HOME}/run \"$@\"', '--', '${args}']",
        "command: [python, env, args, program]",
        "parameters: {a: {values: [a1e-5, 1e-5x, e5]}}",
        "command: []",
    ],
)
def test_what_may_be_right_is_left_alone(text: str) -> None:
    said = remarks(changed(text))
    assert (said.errors, said.warnings) == ([], [])


def test_all_of_it_is_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "metod: grid\nprogram: train.py\nmetric: {name: a, goal: max}\ncomand: [x]\nparameters: {a: {min: 1e-5}}\n"
    )
    with pytest.raises(ConfigError) as raised:
        names.parse(path)
    for words in ("lacks `method:`", "write maximize", "write 1.0e-5", "did you mean `command:`"):
        assert words in str(raised.value)
    assert str(raised.value).count("metod") == 1


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"program": "nowhere.py"}, "nowhere.py"),
        ({"program": "nowhere.sh", "command": ["bash", "${program}"]}, "nowhere.sh"),
        ({"program": "train.py --epochs 3"}, "train.py --epochs 3"),
        ({"command": ["python", "-u", "nowhere.py", "${args}"]}, "nowhere.py"),
        ({"command": ["${env}", "${interpreter}", "src/nowhere.py"]}, "src/nowhere.py"),
        ({"command": ["torchrun", "--standalone", "${program}"], "program": "nowhere.py"}, "nowhere.py"),
        ({"program": "/opt/nowhere.py"}, "/opt/nowhere.py"),
        ({"program": "nowhere.py", "command": ["srun", "python", "${program}"]}, "nowhere.py"),
        ({"program": "train.py"}, None),
        ({"program": "train"}, None),
        ({"program": "nowhere.py", "command": ["./run", "${args}"]}, None),
        ({"command": ["docker", "run", "image", "python", "nowhere.py"]}, None),
        ({"command": ["python", "/opt/nowhere.py"]}, None),
        ({"command": ["bash", "-c", "python nowhere.py"]}, None),
        ({"command": ["python", "-m", "package", "nowhere.py"]}, None),
        ({"command": ["python", "${envvar:HOME}/nowhere.py"]}, None),
    ],
)
def test_a_script_that_is_not_there(config: Mapping[str, object], missing: str | None) -> None:
    assert missing_script(config) == missing
    whole = {"method": "grid", "parameters": {"a": {"value": 1}}, **config}
    if missing is None:
        names.parse(whole)
        return
    with pytest.raises(NotFoundError, match=missing):
        names.parse(whole)


def test_a_script_beside_the_sweep_file_that_the_command_names_is_pointed_out(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "other.py").touch()
    (folder / "s.yaml").write_text("method: grid\nparameters: {a: {value: 1}}\ncommand: [python, other.py]\n")
    with pytest.raises(NotFoundError, match=r"other\.py, which is not in this folder but beside it"):
        names.parse(folder / "s.yaml")


def test_the_lists_are_those_of_w_and_bs_schema() -> None:
    package = find_spec("sweeps")  # not imported, for it warns
    assert package is not None
    assert package.origin is not None
    schema = json.loads((Path(package.origin).parent / "config" / "schema.json").read_text())
    kinds = [one for name, one in schema["definitions"].items() if name.startswith("param_")]
    kinds = [each for one in kinds for each in one.get("anyOf", [one])]
    assert set(KEYS) == set(schema["properties"])
    assert set(METRIC_KEYS) == set(schema["definitions"]["metric"]["properties"])
    assert set(STOPPING_KEYS) == set(schema["definitions"]["hyperband_stopping"]["properties"])
    assert set(PARAMETER_KEYS) == {key for kind in kinds for key in kind["properties"]}
    named = {one for kind in kinds for one in kind["properties"].get("distribution", {}).get("enum", ())}
    assert set(DISTRIBUTIONS) == named


def test_the_macros_are_those_that_the_agent_replaces(tmp_path: Path) -> None:
    assert set(MACROS) == set(macros("train.py", {}, RunFiles(config=tmp_path, args_json=tmp_path)))
