"""How long the client in a run waits for the offline server: longer than by itself, unless its user says otherwise."""

from __future__ import annotations

import json
import shlex

import pytest
from support import Shell

OURS = {
    "WANDB_INIT_TIMEOUT": "900",
    "WANDB_HTTP_TIMEOUT": "300",
    "WANDB_X_FILE_TRANSFER_RETRY_MAX": "10085",
    "WANDB_X_GRAPHQL_RETRY_MAX": "10085",
}
RECORD = """
import json, os, wandb
with wandb.init() as run:
    found = {name: os.environ.get(name) for name in %r}
    with open(f"found-{os.environ['KIND']}.json", "w") as file:
        json.dump(found, file)
"""
FUNCTION = """
import json, os, wandb
import wandb_submit

def train():
    with wandb.init():
        with open("found-function.json", "w") as file:
            json.dump({name: os.environ.get(name) for name in %r}, file)

if __name__ == "__main__":
    config = {"method": "grid", "project": "tests", "parameters": {"x": {"values": [1]}}}
    wandb_submit.submit(config, function=train, array=1, executor="local", offline=True).wait()
"""


def found(shell: Shell, kind: str) -> dict[str, str | None]:
    return json.loads((shell.folder / f"found-{kind}.json").read_text())


@pytest.mark.parametrize("agent", ["native", "wandb"])
def test_runs_of_the_offline_server_wait_for_it_unless_the_user_says_for_how_long(
    offline_shell: Shell, agent: str
) -> None:
    sweep = offline_shell.sweep(RECORD % list(OURS), parameters={"x": {"values": [1]}})
    options = (sweep, "--offline", "--executor", "local", "--array", "1", "--agent", agent, "--count", "1", "--wait")
    offline_shell.ok(*options, KIND=agent)
    assert found(offline_shell, agent) == OURS
    own = {"WANDB_INIT_TIMEOUT": "77", "WANDB_X_FILE_TRANSFER_RETRY_MAX": "5"}
    offline_shell.ok(*options, "--env", "WANDB_INIT_TIMEOUT=77", KIND="own", WANDB_X_FILE_TRANSFER_RETRY_MAX="5")
    assert found(offline_shell, "own") == {**OURS, **own}


def test_functions_wait_for_it_too(offline_shell: Shell) -> None:
    (offline_shell.folder / "submit.py").write_text(FUNCTION % list(OURS))
    done = offline_shell.call("python", "submit.py")
    assert done.returncode == 0, done.stderr
    assert found(offline_shell, "function") == OURS


def test_a_shell_that_is_pointed_at_the_server_waits_for_it_unless_it_says_for_how_long(offline_shell: Shell) -> None:
    printed = offline_shell.ok("server", "env", WANDB_HTTP_TIMEOUT="7")
    exported = dict(word.split("=", 1) for word in shlex.split(printed) if "=" in word)
    assert {name: exported.get(name) for name in OURS} == {**OURS, "WANDB_HTTP_TIMEOUT": None}
