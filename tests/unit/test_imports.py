"""What is loaded by whom, seen from outside in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import wandb_submit

HEAVY = ("wandb", "submitit", "rich", "urllib3")
LOADED = f"import json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
HELP = """
import contextlib, io, sys
from wandb_submit.__main__ import main
sys.argv = ["wandb-submit", *{args!r}]
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main()
assert "Usage" in said.getvalue() or "version" in said.getvalue(), said.getvalue()
"""


def loaded_after(code: str) -> list[str]:
    answer = subprocess.run([sys.executable, "-c", f"{code}\n{LOADED}"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found: list[str] = json.loads(answer.stdout)
    return found


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import wandb_submit") == []


@pytest.mark.parametrize(
    "args", [["--help"], ["submit", "--help"], ["server", "start", "-h"], ["--version"], ["templates", "list", "-h"]]
)
def test_asking_for_help_loads_nothing_heavy(args: list[str]) -> None:
    assert loaded_after(HELP.format(args=args)) == []


def test_asking_for_help_loads_no_room_that_it_needs_nothing_of() -> None:
    code = HELP.format(args=["--help"])
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    ours = {name.split(".")[1] for name in told.stdout.split() if name.startswith("wandb_submit.")}
    assert ours <= {"__main__", "_version", "cli", "errors", "options", "text"}


def test_the_help_is_there_for_the_programs_own_name() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "wandb_submit", "--help"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("Usage: wandb-submit SWEEP [OPTIONS]")


def test_an_agent_loads_nothing_heavy_by_itself() -> None:
    assert loaded_after("import wandb_submit.agent.task") == []


@pytest.mark.parametrize(
    "name", ["options.build", "store.record", "wandb_api.sweeps", "executors.catalog", "executors.local.state"]
)
def test_what_every_command_needs_is_light(name: str) -> None:
    assert not {"wandb", "submitit"} & set(loaded_after(f"import wandb_submit.{name}"))


def test_the_public_names_are_sorted_complete_and_there() -> None:
    assert wandb_submit.__all__ == sorted(wandb_submit.__all__)
    assert all(getattr(wandb_submit, name) is not None for name in wandb_submit.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nonsense'"):
        _ = wandb_submit.nonsense
