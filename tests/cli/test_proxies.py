"""Agents and runs go through the same proxy, whichever way wandb's client is told of it; the real client runs here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from support import Shell

ELSEWHERE = "http://wandb.invalid"  # nobody finds it but a proxy
TRAIN = "import wandb\nwith wandb.init() as run:\n    run.log({'y': 1})\n"
DEAD = "http://127.0.0.1:9"


def configure(path: Path, proxy: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[default]\nhttp_proxy = {proxy}\n")


def finished(shell: Shell, sweep: str, *options: str, **env: str) -> None:
    answer = shell.json(sweep, "--executor", "local", "--array", "1", *options, **env)
    assert (answer["runs_done"], answer["runs_failed"]) == (2, 0), answer
    assert answer["results"]["states"] == {"finished": 2}, answer


@pytest.mark.parametrize("way", ["HTTP_PROXY", "WANDB_HTTP_PROXY", "settings file"])
def test_a_sweep_is_run_through_a_proxy(way: str, offline_shell: Shell) -> None:
    data = json.loads((offline_shell.folder / ".wandb-submit/server/server.json").read_text())
    proxy = str(data["url"])  # our server answers requests that are meant for proxies, too
    settings = Path(offline_shell.env["HOME"]) / ".config/wandb/settings"
    variables: Mapping[str, str] = {}
    if way == "settings file":
        configure(settings, proxy)
        variables = {"HTTP_PROXY": DEAD}
    else:
        variables = {way: proxy}
    sweep = offline_shell.sweep(TRAIN, name="proxied", parameters={"x": {"values": [1, 2]}})
    try:
        finished(offline_shell, sweep, WANDB_BASE_URL=ELSEWHERE, WANDB_API_KEY=data["api_key"], **variables)
    finally:
        settings.unlink(missing_ok=True)


def test_no_proxy_stands_before_the_offline_server(offline_shell: Shell) -> None:
    settings = Path(offline_shell.env["HOME"]) / ".config/wandb/settings"
    configure(settings, DEAD)
    sweep = offline_shell.sweep(TRAIN, name="direct", parameters={"x": {"values": [1, 2]}})
    try:
        finished(offline_shell, sweep, "--offline", HTTP_PROXY=DEAD, WANDB_HTTP_PROXY=DEAD)
    finally:
        settings.unlink()


def test_a_proxy_that_runs_would_not_use_is_told(offline_shell: Shell) -> None:
    proxy = str(offline_shell.json("server", "status")["url"])
    env = {"ALL_PROXY": proxy, "WANDB_BASE_URL": ELSEWHERE, "WANDB_API_KEY": "0" * 40}
    done = offline_shell.run("me/vision/abc12345", "--executor", "local", **env)
    assert done.returncode == 5
    assert "ALL_PROXY is set, but wandb and its runs do not read it: set HTTP_PROXY" in done.stderr
