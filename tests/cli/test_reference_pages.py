"""The tables of the reference pages name what the code has: events, exit statuses, variables, JSON, files."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from support import ROOT, Shell

from wandb_submit import errors
from wandb_submit.store import events

REFERENCE = ROOT / "docs" / "reference"
# Objects whose keys are names or states, not ours.
_FREE = ("states", "config", "resources", "runs")
# What names a variable of the environment, as far as a text in the code shows it.
_VARIABLE = re.compile(
    r"_?(?:WANDB|SBATCH|SLURM|SLURMD|SUBMITIT|CUDA|ROCR|HIP|ZE|XDG|SSL|REQUESTS|OMP|MKL|OPENBLAS|NUMEXPR|MASTER|LOCAL)"
    r"_[A-Z0-9_]*[A-Z0-9]|NETRC|RANK|NODE_RANK|GROUP_RANK|WORLD_SIZE|TMPDIR|NO_PROXY|GPU_DEVICE_ORDINAL"
)
_NONE = {"SLURM_VERSION"}  # a word in the answer of scontrol


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of the first table below a head."""
    text = (REFERENCE / page).read_text().partition(f"{head}\n")[2]
    assert text, head
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]


def keys(command: str) -> set[str]:
    """The keys that the page of JSON has for a command, but for those of objects whose own keys it has."""
    named = {row[0].strip("` |") for row in rows("json.md", f"## `wandb-submit {command}`")}
    return {key for key in named if not any(other.startswith((f"{key}.", f"{key}[]")) for other in named)}


def of_result(value: Any, place: str = "", free: tuple[str, ...] = _FREE) -> Iterator[str]:
    """The keys of a result, by the page's own way to write them."""
    match value:
        case dict() if place.rpartition(".")[2] not in free:
            for key, below in value.items():
                yield from of_result(below, f"{place}.{key}" if place else key, free)
        case [dict(), *_]:
            for each in value:
                yield from of_result(each, f"{place}[]", free)
        case _:
            yield place


def test_events_have_the_fields_that_the_page_names() -> None:
    shown = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows("files-and-events.md", "## Events")}
    kinds = get_args(events.Event)
    assert shown == {kind.name: [field.name for field in dataclasses.fields(kind)] for kind in kinds}


def test_every_exit_status_is_on_the_page() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    ours = {kind.exit_code for kind in kinds if issubclass(kind, errors.WandbSubmitError)}
    assert {int(row[0].strip("| ")) for row in rows("exit-statuses.md", "# Exit statuses")} == ours | {0, 130}


def test_every_variable_that_the_code_names_is_on_a_page() -> None:
    texts = {
        node.value
        for module in (ROOT / "wandb_submit").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.fullmatch(node.value)
    }
    pages = "".join((REFERENCE / page).read_text() for page in ("environment-variables.md", "offline-server.md"))
    assert len(texts) > 60
    assert sorted(text for text in texts - _NONE if text not in pages) == []


def test_every_file_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "development" / "architecture.md").read_text()
    named = re.findall(r"`([\w./]+?(?:\.py|/))`", text)
    assert len(named) > 80
    missing = [name for name in named if not any((place / name).exists() for place in (ROOT / "wandb_submit", ROOT))]
    assert missing == []
    rooms = {path.name for path in (ROOT / "wandb_submit").iterdir() if (path / "__init__.py").is_file()}
    assert {room for room in rooms if f"`{room}/" not in text} == set()
    below = {path.name for path in (ROOT / "wandb_submit" / "server").iterdir() if (path / "__init__.py").is_file()}
    assert {room for room in below if f"`server/{room}/" not in text} == set()


@pytest.fixture
def swept(shell: Shell) -> Shell:
    """A person who has run a small sweep on the offline server."""
    script = "import wandb\nwandb.init().log({'loss': 1.0})\n"
    shell.sweep(script, name="s", metric={"name": "loss", "goal": "minimize"}, parameters={"x": {"values": [1, 2]}})
    return shell


def test_json_has_the_keys_that_the_page_names(swept: Shell) -> None:
    here = ("--offline", "--executor", "local", "--gpus-per-task", "0", "--array", "2")
    ended = swept.json("s.yaml", *here, timeout_s=280)
    assert set(of_result(ended)) == keys("status --json") | keys("wait --json")
    assert set(of_result(swept.json("status"))) == keys("status --json")
    assert set(of_result(swept.json("status", "--all")[0])) == keys("status --json")
    planned = set(of_result(swept.json("s.yaml", *here, "--dry-run")))
    assert planned == keys("SWEEP --dry-run --json") - {"scripts"}
    assert set(of_result(swept.json("server", "status"))) == keys("server status --json")
    assert set(of_result(swept.json("templates", "list"))) == keys("templates list --json")
    assert set(of_result(swept.json("doctor", "--executor", "local"))) == keys("doctor --json")

    point = 'eval "$(wandb-submit server env --data there)"; unset WANDB_ENTITY; exec wandb-submit sync'
    swept.ok("server", "start", "--data", "there")
    try:
        for asked in (("--dry-run", "--json"), ("--json",)):
            sync = f"{point} {ended['sweep']} --data .wandb-submit/server {' '.join(asked)}"
            done = swept.call("bash", "-c", sync, timeout_s=280)
            assert done.returncode == 0, done.stderr
            command = f"sync {' '.join(asked)}"
            told = set(of_result(json.loads(done.stdout), free=()))
            assert told - {"failures"} == keys(command) - {"failures[].run", "failures[].reason"}
    finally:
        swept.ok("server", "stop", "--data", "there")
    swept.ok("s.yaml", *here, "--detach", "--json")


def test_json_of_a_detached_submission_and_of_a_server_that_is_not_there(swept: Shell) -> None:
    begun = swept.json("s.yaml", "--offline", "--executor", "local", "--gpus-per-task", "0", "--detach")
    assert set(of_result(begun)) == keys("SWEEP --detach --json")
    swept.run("wait", timeout_s=280)
    gone = swept.run("server", "status", "--json", "--data", "nowhere")
    assert gone.returncode == 3
    assert set(json.loads(gone.stdout)) <= keys("server status --json")
