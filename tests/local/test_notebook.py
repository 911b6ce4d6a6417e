"""Submissions in a real Jupyter kernel."""

from __future__ import annotations

import json
import queue
import re
import sys
from collections.abc import Iterator

import pytest
from jupyter_client import BlockingKernelClient, KernelManager
from support import ROOT, Shell, wait_until

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
SUBMIT = """
import os, time, wandb, wandb_submit
def train():
    with wandb.init() as run:
        if run.config.x == 2:
            raise ValueError("<two>")
        while not os.path.exists("go"):
            time.sleep(0.05)
        run.log({"loss": run.config.x})
config = {"method": "grid", "project": "tests", "metric": {"name": "loss"}, "parameters": {"x": {"values": [1, 2, 3]}}}
submission = wandb_submit.submit(config, function=train, array=1, executor="local", offline=True)
submission
"""


class Kernel:
    """A notebook's kernel, and what it shows."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.shown: list[str] = []
        self.said = ""
        self.errors: list[list[str]] = []

    def run(self, code: str) -> None:
        """Runs a cell, which must not fail, to its end."""
        assert self.try_(code) == []

    def try_(self, code: str) -> list[str]:
        """Runs a cell to its end; returns the traceback that it shows if it fails."""
        self.errors.clear()
        asked = self._client.execute(code)
        while True:
            message = self._client.get_iopub_msg(timeout=120)
            self._take(message)
            done = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
            if done and message["parent_header"].get("msg_id") == asked:
                return self.errors[0] if self.errors else []

    def look(self) -> list[str]:
        """What it has shown so far, with what came while no cell ran."""
        try:
            while True:
                self._take(self._client.get_iopub_msg(timeout=0.1))
        except queue.Empty:
            return self.shown

    def _take(self, message: dict) -> None:
        content = message["content"]
        if message["msg_type"] == "error":
            self.errors.append(content["traceback"])
        if message["msg_type"] in ("display_data", "update_display_data"):
            self.shown.append(content["data"]["text/html"])
        if message["msg_type"] == "stream":
            self.said += content["text"]


@pytest.fixture
def manager(shell: Shell) -> Iterator[KernelManager]:
    manager = KernelManager()
    manager.start_kernel(cwd=str(shell.folder), env=dict(shell.env))
    yield manager
    manager.shutdown_kernel(now=True)


def connect(manager: KernelManager) -> Kernel:
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    return Kernel(client)


def test_a_submission_shows_itself_and_goes_on_without_its_kernel(shell: Shell, manager: KernelManager) -> None:
    kernel = connect(manager)
    kernel.run(SUBMIT)
    first = kernel.shown[-1]
    assert '<progress max="3"' in first
    assert "<th>GPU</th>" in first
    # The kernel is free while the table changes by itself.
    wait_until(lambda: "1 running" in kernel.look()[-1], what="the table shows the first run")
    kernel.run("print(submission.status().runs_done, submission)")
    assert re.match(r"0 <Submission \w{6}: sweep local/tests/\w+, 1 task on local, runs done 0 of 3>", kernel.said)
    # Restarted, it knows nothing, and the runs go on.
    manager.restart_kernel(now=True)
    kernel = connect(manager)
    (shell.folder / "go").touch()
    kernel.run("import wandb_submit; submission = wandb_submit.attach(); submission")
    ended = wait_until(lambda: [text for text in kernel.look() if "runs done 3 of 3" in text], what="the runs end")[-1]
    assert "1 failed" in ended
    assert "<code>ValueError: &lt;two&gt;</code></summary><pre>Traceback (most recent call last):" in ended
    assert "raise ValueError(&quot;&lt;two&gt;&quot;)\nValueError: &lt;two&gt;</pre>" in ended
    assert re.search(
        r'best run: <a href="http://127\.0\.0\.1:\d+/local/tests/runs/\w+"[^>]*>[^<]+</a>, loss = 1<', ended
    )
    kernel.run("failed = [run for run in submission.runs() if run.exit_code]; print(submission.logs(failed[0]))")
    assert "ValueError: <two>" in kernel.said
    assert 'raise ValueError("<two>")' in kernel.said  # the cell's own line, which is in no file


UNHEARD = """
import wandb_submit
config = {"method": "grid", "project": "tests", "parameters": {"x": {"values": [1, 2]}}}
submission = wandb_submit.submit(config, function=lambda: None, array=1, executor="local", offline=True)
submission
"""


def test_runs_that_their_server_has_not_heard_of_are_told_at_the_end(shell: Shell, manager: KernelManager) -> None:
    kernel = connect(manager)
    kernel.run(UNHEARD)
    words = "2 runs ended well without a `wandb.init()` that reached the sweep"
    wait_until(lambda: words in kernel.look()[-1], what="the table tells of them")


EDITED = """
def helper():
    return "{words}"
def train():
    import lesson
    print(helper(), lesson.WORDS)
again = wandb_submit.submit(config, function=train, array=1, executor="local", offline=True)
print(again.wait().is_well, again.logs(again.runs()[0].id))
"""


def test_code_that_was_edited_runs_as_it_is_when_it_is_submitted_again(shell: Shell, manager: KernelManager) -> None:
    kernel = connect(manager)
    kernel.run("import wandb_submit, pathlib; config = {'method': 'grid', 'parameters': {'x': {'values': [1]}}}")
    for words in ("first", "second"):
        (shell.folder / "lesson.py").write_text(f"WORDS = '{words * 2}'")
        kernel.said = ""
        kernel.run("import lesson\n" + EDITED.format(words=words))
        assert kernel.said.strip() == f"True {words} {words * 2}"


def test_what_is_wrong_is_told_in_the_notebook_in_its_own_words_and_nothing_is_left(
    shell: Shell, manager: KernelManager
) -> None:
    kernel = connect(manager)
    kernel.run("import threading, wandb_submit; lock = threading.Lock()")
    submit = "wandb_submit.submit({}, executor='local', offline=True{})"
    config = "{'method': 'grid', 'parameters': {'x': {'values': [1]}}}"
    for given, options, words in (
        ("{}", "", "ConfigError: the given configuration is not a sweep configuration: it lacks `method:`"),
        ("5", "", "ConfigError: 5 is neither a sweep's name or file nor its configuration as a dictionary"),
        (config, ", function=lambda: lock.acquire()", "ConfigError: the function '<lambda>' refers to something that"),
        (config, ", function=print, gpus_per_task='x'", "ConfigError: --gpus-per-task 'x'"),
        (config, ", function=print, agent='wandb'", "ConfigError: --agent wandb: a function needs the native agent"),
    ):
        (told,) = kernel.try_(submit.format(given, options))
        assert told.startswith(words)
    (told,) = kernel.try_("wandb_submit.attach('nonsense')")
    assert told.startswith("NotFoundError: ")
    assert list(shell.folder.glob(".wandb-submit/*/submission.json")) == []


def test_the_example_runs_from_its_first_cell_to_its_plot(shell: Shell) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)
    (shell.folder / "notebook.ipynb").write_text(NOTEBOOK.read_text())
    done = shell.call(sys.executable, "-m", "jupyter", "execute", "notebook.ipynb", "--output=done.ipynb")
    assert done.returncode == 0, done.stderr
    *_, table, results, plot = [
        cell["outputs"]
        for cell in json.loads((shell.folder / "done.ipynb").read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    assert "<progress" in "".join(table[0]["data"]["text/html"])
    said = "".join("".join(output["text"]) for output in results)
    assert "{'finished': 12} best: {'lr': " in said
    assert "on GPU " in said
    assert any("image/png" in output["data"] for output in plot)
