"""Starting, finding and stopping servers, and what stands in the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from offline.clients import Protocol
from support import wait_until

from wandb_submit.errors import ConfigError, RefusedError
from wandb_submit.server.control import addresses, lifecycle, reach

START = """
import sys
from pathlib import Path
from wandb_submit.server.control import addresses, lifecycle, reach
info = lifecycle.start(Path(sys.argv[1]))
print(info.pid, info.url)
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "deep" / "da ta"
    lifecycle.stop(tmp_path / "deep" / "da ta")


def test_start_status_stop(data_dir: Path):
    assert lifecycle.status(data_dir) is None
    assert lifecycle.stop(data_dir) is False
    begun = time.monotonic()
    info = lifecycle.start(data_dir)
    print(f"a server starts in {time.monotonic() - begun:.2f} s")
    assert lifecycle.status(data_dir) == info
    assert lifecycle.start(data_dir) == info
    assert os.getsid(info.pid) == info.pid
    assert info.api_key not in repr(info)
    assert lifecycle.stop(data_dir) is True
    assert lifecycle.status(data_dir) is None
    assert not (data_dir / "server.json").exists()
    again = lifecycle.start(data_dir)
    assert (again.url, again.api_key) == (info.url, info.api_key)
    assert info.api_key not in (data_dir / "server.log").read_text()


def test_a_server_is_stopped_by_who_has_started_it_unless_it_is_kept_or_others_use_it(data_dir: Path):
    assert lifecycle.stop_unless_kept(data_dir) is False
    lifecycle.start(data_dir)
    lifecycle.start(data_dir)  # of use to us alone
    assert lifecycle.stop_unless_kept(data_dir) is True
    assert lifecycle.status(data_dir) is None
    lifecycle.start(data_dir)
    lifecycle.keep(data_dir)
    assert lifecycle.stop_unless_kept(data_dir) is False
    lifecycle.stop(data_dir)
    lifecycle.start(data_dir)
    subprocess.run([sys.executable, "-c", START, str(data_dir)], check=True, stdout=subprocess.DEVNULL)
    assert lifecycle.stop_unless_kept(data_dir) is False
    lifecycle.stop(data_dir)
    subprocess.run([sys.executable, "-c", START, str(data_dir)], check=True, stdout=subprocess.DEVNULL)
    assert lifecycle.stop_unless_kept(data_dir) is False  # another process has started it


def test_modules_in_the_working_folder_or_the_data_folder_do_not_stand_in_for_others(data_dir: Path, tmp_path: Path):
    data_dir.mkdir(parents=True, mode=0o700)
    for folder in (tmp_path / "project", data_dir):
        folder.mkdir(exist_ok=True)
        for name in ("random", "netrc", "sweeps", "yaml", "graphql"):
            (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    elsewhere = tmp_path / "start.py"
    elsewhere.write_text(START)
    argv = [sys.executable, str(elsewhere), str(data_dir)]
    done = subprocess.run(argv, cwd=tmp_path / "project", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    info = lifecycle.status(data_dir)
    assert info is not None
    assert Path(f"/proc/{info.pid}/cwd").resolve() == data_dir
    with Protocol(info) as client:
        assert client.take_run(client.agent(client.create_sweep(method="grid", parameters={"x": {"values": [1]}})))


def test_only_the_owner_can_read_anything(data_dir: Path):
    info = lifecycle.start(data_dir)
    with Protocol(info) as client:
        client.create_sweep(method="grid", parameters={"x": {"values": [1]}})
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    open_to_others = [path for path in data_dir.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []


def test_two_that_start_at_once_get_one_server(data_dir: Path):
    def start(_: int) -> str:
        argv = [sys.executable, "-c", START, str(data_dir)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1


def test_a_server_without_its_process_is_not_there(data_dir: Path):
    info = lifecycle.start(data_dir)
    os.kill(info.pid, signal.SIGKILL)
    wait_until(lambda: lifecycle.status(data_dir) is None, what="the server is not there")
    assert (data_dir / "server.json").exists()
    assert lifecycle.stop(data_dir) is False
    assert lifecycle.start(data_dir).url == info.url


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_foreground_server_cleanly(tmp_path: Path, number: signal.Signals):
    process = subprocess.Popen(
        [sys.executable, "-m", "wandb_submit.server", "--data", str(tmp_path)], stderr=subprocess.DEVNULL
    )
    wait_until(lambda: lifecycle.status(tmp_path), what="the server has started")
    process.send_signal(number)
    assert process.wait(10) == 0
    assert not (tmp_path / "server.json").exists()
    assert not (tmp_path / "server.sqlite3-wal").exists()


def test_a_second_server_of_the_folder_is_refused(data_dir: Path):
    lifecycle.start(data_dir)
    argv = [sys.executable, "-m", "wandb_submit.server", "--data", str(data_dir)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == RefusedError.exit_code
    assert done.stderr.splitlines()[-1].startswith("error: another offline sweep server already serves")


def test_a_file_in_the_way_of_the_folder(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to .*/file/data: Not a directory; .* WANDB_SUBMIT_DIR"):
        lifecycle.start(tmp_path / "file" / "data")


def test_a_folder_of_other_things_is_not_closed_to_others(tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(RefusedError, match="holds other things"):
        lifecycle.start(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_folder_that_cannot_be_written_to(tmp_path: Path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        # Root may write everywhere; a folder where the database should be stops even root.
        tmp_path.chmod(0o700)
        (tmp_path / "data" / "server.sqlite3").mkdir(parents=True)
        (tmp_path / "data").chmod(0o700)
    with pytest.raises(ConfigError, match=r"cannot (write to|open the database) .*/data"):
        lifecycle.start(tmp_path / "data")


def test_a_port_that_is_taken(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RefusedError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            lifecycle.start(tmp_path / "data", port=port)


def test_last_times_port_is_left_to_others(data_dir: Path):
    info = lifecycle.start(data_dir)
    lifecycle.stop(data_dir)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(info.url.rpartition(":")[2])))
        other.listen()
        assert lifecycle.start(data_dir).url != info.url


def test_data_of_a_newer_version_is_left_alone(tmp_path: Path):
    with sqlite3.connect(tmp_path / "server.sqlite3") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(ConfigError, match=r"newer wandb-submit.*version 99"):
        lifecycle.start(tmp_path)


def test_a_key_that_others_could_read_is_closed_to_them_and_its_owner_told(data_dir: Path):
    info = lifecycle.start(data_dir)
    lifecycle.stop(data_dir)
    (data_dir / "api_key").chmod(0o644)
    again = lifecycle.start(data_dir)
    assert stat.S_IMODE((data_dir / "api_key").stat().st_mode) == 0o600
    assert again.api_key == info.api_key
    assert "other users could read the API key in" in str(again.note)
    assert "(mode 0644)" in (data_dir / "server.log").read_text()
    lifecycle.stop(data_dir)
    assert lifecycle.start(data_dir).note is None


@pytest.mark.parametrize(
    "content",
    [b"", b" \n\t\n", b"short\n", b"\xe9" * 40, ("é" * 40).encode(), b"a" * 39 + b" b", b"\0" * 40, b"a" * 5000],
    ids=["empty", "blank", "short", "latin-1", "accents", "space", "nul", "endless"],
)
def test_a_file_that_holds_no_key_is_left_alone_and_named(data_dir: Path, content: bytes):
    lifecycle.start(data_dir)
    lifecycle.stop(data_dir)
    key = data_dir / "api_key"
    key.write_bytes(content)
    with pytest.raises(ConfigError, match=r"/api_key holds no API key, .* delete it: the next start makes a new key$"):
        lifecycle.start(data_dir)
    assert key.read_bytes() == content
    key.unlink()
    assert lifecycle.start(data_dir)


def test_a_folder_in_the_place_of_the_key(data_dir: Path):
    (data_dir / "api_key").mkdir(parents=True)
    data_dir.chmod(0o700)
    (data_dir / "api_key").chmod(0o700)
    with pytest.raises(ConfigError, match=r"cannot read the API key in .*/api_key: Is a directory"):
        lifecycle.start(data_dir)


def test_missing_packages_are_named_with_the_line_that_installs_them(tmp_path: Path):
    code = """
import importlib.abc, importlib.util, sys
hidden = set(sys.argv[1].split(","))
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in hidden else found(name, package)
from wandb_submit.errors import ConfigError
from wandb_submit.server.control.requirements import check_installed
try:
    check_installed()
except ConfigError as error:
    print(error)
"""

    def said(hidden: str) -> str:
        argv = [sys.executable, "-c", code, hidden]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout

    for hidden in ("starlette", "graphql,sweeps", "sklearn"):
        assert said(hidden).endswith(": pip install 'wandb-submit[offline]'\n")
    assert said("sweeps").endswith(": pip install --no-deps sweeps\n")
    assert said("none") == ""


def test_the_command_line_need_not_load_the_server():
    code = (
        "import sys, json; import wandb_submit.server.control.lifecycle; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"graphql", "starlette", "uvicorn", "sweeps", "numpy", "wandb", "submitit"}
    assert not heavy & set(json.loads(done.stdout))


def test_what_is_asked_for_is_remembered(data_dir: Path):
    first = lifecycle.start(data_dir, seed=5, crash_after_s=77, gone_grace_s=3)
    assert first.choices["crash_after_s"] == "77"
    with pytest.raises(RefusedError, match=r"runs already, with --crash-after 77 and not 78: stop it first"):
        lifecycle.start(data_dir, crash_after_s=78)
    assert lifecycle.start(data_dir, seed=5).pid == first.pid
    lifecycle.stop(data_dir)
    again = lifecycle.start(data_dir, gone_grace_s=4)
    assert dict(again.choices) == {**first.choices, "gone_grace_s": "4"}
    assert lifecycle.facts(again)["runs"] == {}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"port": 70000}, "--port 70000 is not a port"),
        ({"host": " "}, "--host is empty"),
        ({"crash_after_s": float("nan")}, "--crash-after nan is not a number of seconds"),
        ({"stop_grace_s": -1}, "--stop-grace -1 is not a number of seconds"),
    ],
)
def test_choices_that_make_no_sense(data_dir: Path, choice: dict[str, object], words: str):
    with pytest.raises(ConfigError, match=words):
        lifecycle.start(data_dir, **choice)
    assert not data_dir.exists()


def test_an_address_that_is_not_ours(data_dir: Path):
    with pytest.raises(RefusedError, match=r"cannot listen on 198.51.100.7:"):
        lifecycle.start(data_dir, host="198.51.100.7")
    with pytest.raises(RefusedError, match=r"cannot listen on no.such.host.invalid:"):
        lifecycle.start(data_dir, host="no.such.host.invalid")


def pretend_to_run_on(machine: str, data_dir: Path) -> None:
    known = json.loads((data_dir / "server.json").read_text())
    (data_dir / "server.json").write_text(json.dumps({**known, "hostname": machine}))


def test_a_server_that_listens_on_another_machine_alone(data_dir: Path):
    info = lifecycle.start(data_dir)
    pretend_to_run_on("login2", data_dir)
    with pytest.raises(RefusedError, match=r"runs on login2, and only programs there reach it"):
        lifecycle.start(data_dir)
    with pytest.raises(RefusedError, match=r"runs on login2: stop it there"):
        lifecycle.stop(data_dir)
    pretend_to_run_on(info.machine, data_dir)


def test_a_server_on_another_machine_whose_lock_is_not_seen_here(data_dir: Path):
    info = lifecycle.start(data_dir)
    os.kill(info.pid, signal.SIGKILL)
    wait_until(lambda: lifecycle.status(data_dir) is None, what="the lock is free")
    pretend_to_run_on("login2", data_dir)
    os.utime(data_dir / "server.lock")
    with pytest.raises(RefusedError, match=r"was alive on login2 less than a minute ago"):
        lifecycle.start(data_dir)
    long_ago = time.time() - 100
    os.utime(data_dir / "server.lock", (long_ago, long_ago))
    assert lifecycle.start(data_dir).machine == info.machine


def test_a_server_for_other_machines_is_where_they_reach_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    ours = addresses.way_out()
    assert ours is not None, "this machine has no address but loopback"
    assert reach.address_for(None) is None
    assert reach.address_for("127.0.0.1") is None
    assert reach.address_for(ours) == reach.address_for("no.such.host.invalid") == ours

    info = reach.start(data_dir, ours)
    assert info.url.startswith(f"http://{ours}:")
    lifecycle.stop(data_dir)
    # Its agents know that address: it is kept, whoever starts the server next.
    assert lifecycle.start(data_dir).url == info.url
    lifecycle.stop(data_dir)
    lifecycle.start(data_dir, host="127.0.0.1")
    with pytest.raises(RefusedError, match=rf"do not reach.*server start --data '{data_dir}' --host {ours}"):
        reach.start(data_dir, ours)


def test_a_server_on_all_addresses_announces_one_that_others_reach(data_dir: Path):
    info = lifecycle.start(data_dir, host="0.0.0.0")
    name = info.url.removeprefix("http://").rpartition(":")[0]
    assert not addresses.is_loopback(name)
    with Protocol(info) as client:
        assert client.post("{ viewer { id } }").status_code == 200
    assert addresses.announced("login1") == "login1"
    assert addresses.announced("fd00::2") == "[fd00::2]"
    assert addresses.is_loopback("::1")
    assert not addresses.is_loopback("no.such.host.invalid")


def test_agents_that_have_ended_are_not_counted_as_at_work(data_dir: Path):
    with Protocol(lifecycle.start(data_dir)) as client:
        sweep = client.create_sweep(method="random", parameters={"x": {"min": 0.0, "max": 1.0}})
        agents = [client.agent(sweep) for _ in range(3)]
        assert client.http.get("/healthz/facts").json()["agents"] == 3
        client.set_state(sweep, "CANCELED")
        assert [order["type"] for order in client.heartbeat(agents[0])] == ["exit"]
        assert client.http.get("/healthz/facts").json()["agents"] == 2
