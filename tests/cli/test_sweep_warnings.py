"""What is said of a sweep's configuration reaches the person who submits it, and nothing else of the client's does."""

from __future__ import annotations

import json

from support import Shell

SWEEP = {"parameters": {"x": {"values": [1, 2]}}, "comand": ["x"], "folder": "x"}


def test_our_warnings_and_the_servers_are_on_stderr(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="odd", **SWEEP)
    data = json.loads((offline_shell.folder / ".wandb-submit/server/server.json").read_text())
    done = offline_shell.run(sweep, "--offline", "--executor", "local", "--array", "1", "--count", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs_done"] == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: odd.yaml: `comand:` does not exist: did you mean `command:`?",
        "warning: odd.yaml: Additional properties are not allowed ('comand', 'folder' were unexpected),"
        " says the server",
    ]
    assert "wandb:" not in done.stderr
    assert data["api_key"] not in done.stdout + done.stderr
    dry = offline_shell.run(sweep, "--offline", "--executor", "local", "--dry-run")
    assert warnings[0] in dry.stderr


def test_a_sweep_that_was_created_elsewhere_is_looked_at(offline_shell: Shell) -> None:
    offline_shell.sweep("pass", name="gone")
    config = {"method": "grid", "program": "gone.py", "metric": {"name": "acc", "goal": "max"}, "project": "tests"}
    code = f"import wandb; print('ID', wandb.sweep({ {**config, 'parameters': {'x': {'value': 1}}}!r}))"
    sweep = offline_shell.wandb_python(code).rpartition("ID ")[2].strip()
    (offline_shell.folder / "gone.py").unlink()
    done = offline_shell.run(f"local/tests/{sweep}", "--offline", "--executor", "local", "--dry-run")
    assert [line for line in done.stderr.splitlines() if line.startswith("warning: ")] == [
        f"warning: local/tests/{sweep}: `metric.goal: max` does not exist: write maximize "
        "(there are minimize and maximize)",
        f"warning: local/tests/{sweep}: it runs gone.py, which is not in this folder",
    ]


def test_a_goal_that_does_not_exist_is_refused_before_anything_is_made(shell: Shell) -> None:
    sweep = shell.sweep("pass", name="goal", metric={"name": "acc", "goal": "max"}, **SWEEP)
    done = shell.run(sweep, "--offline", "--executor", "local")
    assert done.returncode == 2
    assert "`metric.goal: max` does not exist: write maximize" in done.stderr
    assert not (shell.folder / ".wandb-submit").exists()


def test_python_is_warned_at_the_callers_line(offline_shell: Shell) -> None:
    offline_shell.sweep("pass", name="odd")
    code = (
        "import warnings, wandb_submit\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        f"    config = {{'method': 'grid', 'program': 'odd.py', 'project': 'tests', **{SWEEP!r}}}\n"
        "    submission = wandb_submit.submit(config, array=1, count=1, executor='local', offline=True)\n"
        "    submission.wait()\n"
        "said = [each for each in said if issubclass(each.category, UserWarning)]\n"
        "print([[str(each.message), each.filename, each.lineno] for each in said])\n"
    )
    done = offline_shell.call("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "the given configuration: `comand:` does not exist: did you mean `command:`?', '<string>', 5]" in done.stdout
    assert "('comand', 'folder' were unexpected), says the server" in done.stdout


def test_a_parameter_that_is_called_timeout_is_no_trouble_with_the_server(offline_shell: Shell) -> None:
    sweep = offline_shell.sweep("pass", name="odd", method="random", parameters={"timeout": {"min": 5, "max": 2}})
    done = offline_shell.run(sweep, "--offline", "--executor", "local")
    assert done.returncode == 2
    assert "the server does not accept odd.yaml: Invalid sweep config: timeout: min 5 is not" in done.stderr
