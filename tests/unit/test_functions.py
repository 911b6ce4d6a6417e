"""What of a function travels, and what is told about it."""

from __future__ import annotations

import collections
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import wandb_submit
from wandb_submit.errors import ConfigError
from wandb_submit.submission.function import Function

PROGRAM = Path(wandb_submit.__file__).parent / "agent/runs/programs/function.py"
SCRIPT = """
import collections.abc as shapes, json, xml.dom
from decimal import Decimal
unused = open
def helper():
    def inner():
        import email.message
        from html import parser
    return Decimal(1), inner
def train():
    return helper(), shapes.Mapping, json.dumps
from wandb_submit.submission.function import Function
print(*Function.pickle(train).preload.modules)
"""


def test_the_modules_that_a_function_uses_are_found_and_only_these() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    to_read_it = "cloudpickle.cloudpickle"
    assert set(done.stdout.split()) == {"collections.abc", "decimal", "email.message", "html", "json", to_read_it}


def test_a_function_of_a_module_stays_there() -> None:
    pickled = Function.pickle(collections.OrderedDict)
    assert pickled.preload.modules == ("collections",)
    assert len(pickled.data) < 2000


@pytest.mark.parametrize("odd", ["train", 5, None])
def test_what_is_no_function_is_refused(odd: object) -> None:
    with pytest.raises(ConfigError, match="is not a function"):
        Function.pickle(odd)  # type: ignore[arg-type]


def test_the_source_of_a_cell_comes_along(tmp_path: Path) -> None:
    import linecache

    code = "def train():\n    return 1\n"
    linecache.cache["<cell 5>"] = (len(code), None, code.splitlines(keepends=True), "<cell 5>")
    namespace: dict = {"__name__": "__main__"}
    exec(compile(code, "<cell 5>", "exec"), namespace)
    assert b"return 1" in Function.pickle(namespace["train"]).data


def test_code_that_has_travelled_names_the_file_that_it_is_from() -> None:
    code = "def train():\n    def inner():\n        return 1\n    return inner\n"
    namespace: dict = {"__name__": "__main__"}
    exec(compile(code, "<cell 5>", "exec"), namespace)
    parts = io.BytesIO(Function.pickle(namespace["train"]).data)
    pickle.load(parts)
    arrived = pickle.load(parts)
    assert arrived is not namespace["train"]
    assert arrived()() == 1
    assert arrived.__code__.co_filename == arrived().__code__.co_filename == "<cell 5>"


def test_code_of_another_version_of_python_is_not_run(tmp_path: Path) -> None:
    def called(about: dict) -> str:
        file = io.BytesIO(Function.pickle(eval("lambda: print('called')")).data)
        told = pickle.load(file)
        assert told["python"] == sys.version_info[:2]
        (tmp_path / "function.pkl").write_bytes(pickle.dumps({**told, **about}) + file.read())
        argv = [sys.executable, str(PROGRAM)]
        env = {"WANDB_SUBMIT_FUNCTION": str(tmp_path / "function.pkl")}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert called({}) == called({"python": None}) == "called\n"
    assert called({"python": (3, 8)}).startswith("the function is of Python 3.8, and ")
