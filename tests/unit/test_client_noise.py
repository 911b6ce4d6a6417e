"""A run's last words are the program's: what wandb's libraries print behind them, here for real, is left out."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wandb_submit.store.client_noise import without_clients
from wandb_submit.store.logs import LastWords

TELEMETRY = """
import logging, os, sys
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
print("epoch 3", flush=True)
if len(sys.argv) > 2:
    logging.basicConfig(format=sys.argv[2] or None)
exporter = OTLPMetricExporter(sys.argv[1], timeout=1)
provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
provider.get_meter("wandb").create_counter("runs").add(1)
provider.shutdown()
exporter.shutdown()
os._exit(7)
"""
THREAD = """
import os, threading, urllib3
print("epoch 3", flush=True)
get = urllib3.PoolManager().request
thread = threading.Thread(target=get, args=("GET", "http://127.0.0.1:1/"), kwargs={"retries": 0})
thread.start()
thread.join()
os._exit(7)
"""
RAISED = """
import atexit, urllib3
atexit.register(urllib3.PoolManager().request, "GET", "http://127.0.0.1:1/", retries=False)
atexit.register(lambda: 1 / 0)
try:
    urllib3.PoolManager().request("GET", "http://127.0.0.1:1/", retries=False)
except urllib3.exceptions.HTTPError as error:
    raise ValueError("no data") from error
"""
# As Go prints them: the first is wandb-core's, the second the program's own.
PANIC = """\
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x9d2b6e]
goroutine 47 [running]:
{package}.(*Sender).send(0xc000590000, {{0x0, 0x0}})
\t/build/core/sender.go:312 +0x2e
created by {package}.New in goroutine 1
\t/build/core/stream.go:98 +0x1b1
"""


@pytest.fixture(scope="module")
def nowhere() -> Iterator[str]:
    """The address of a server that has nothing there."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/metrics"
        http.shutdown()
        thread.join()


def run(code: str, folder: Path, *arguments: str) -> tuple[str, LastWords]:
    log = folder / "run.log"
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=file, stderr=file, check=False, env=env)
    return log.read_text(), LastWords.read(log, done.returncode)


@pytest.mark.parametrize(
    "formatted",
    [(), ("",), ("%(asctime)s - %(name)s - %(levelname)s - %(message)s",), ("[%(levelname)s] %(message)s",)],
)
def test_telemetry_that_nobody_takes_is_no_last_word(formatted: tuple[str, ...], nowhere: str, tmp_path: Path) -> None:
    printed, last = run(TELEMETRY, tmp_path, nowhere, *formatted)
    assert "Failed to export metrics batch code: 404" in printed
    assert last == LastWords(line="epoch 3")


def test_telemetry_that_reaches_nobody_is_no_last_word(tmp_path: Path) -> None:
    printed, last = run(TELEMETRY, tmp_path, "http://127.0.0.1:1/")
    assert "Failed to export metrics batch" in printed
    assert last == LastWords(line="epoch 3")


def test_what_a_librarys_thread_raised_is_no_last_word(tmp_path: Path) -> None:
    printed, last = run(THREAD, tmp_path)
    assert "Exception in thread" in printed
    assert "Connection refused" in printed
    assert last == LastWords(line="epoch 3")


def test_what_the_program_raised_is_told_with_what_a_library_raised_before(tmp_path: Path) -> None:
    printed, last = run(RAISED, tmp_path)
    assert "ZeroDivisionError" in printed
    assert last.line == "ValueError: no data"
    assert last.traceback.count("Traceback") == 3
    assert last.traceback.endswith("ValueError: no data")


@pytest.mark.parametrize(
    "line",
    [
        "wandb: Find logs at: ./wandb/run-1/logs",
        "WARNING:urllib3.connectionpool:Retrying (Retry(total=2)) after connection broken",
        '2026/11/28 14:00:00 Unsolicited response received on idle HTTP channel starting with "HTTP/1.0 408"',
        "/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: There appear to be 6",
    ],
)
def test_what_the_client_says_is_left_out(line: str) -> None:
    assert without_clients(["epoch 3", line]) == ["epoch 3"]


@pytest.mark.parametrize(
    "line",
    [
        "wandb.errors.errors.CommError: project not found",
        "ERROR: wandb.errors.CommError: project not found",
        "ERROR:train:Failed to export the model",
        "2026/11/28 14:00:00 loss is not finite",
        "Failed to export onnx batch norm",
        "panic: no data",
    ],
)
def test_what_the_program_says_of_it_is_kept(line: str) -> None:
    assert without_clients(["epoch 3", line]) == ["epoch 3", line]


LEAVES = """
import sys
class Loader:
    def __del__(self):
        raise OSError("gone")
print("epoch 3", flush=True)
Loader()
sys.exit(3)
"""


def test_what_python_ignores_is_no_last_word(tmp_path: Path) -> None:
    printed, last = run(LEAVES, tmp_path)
    assert "OSError: gone" in printed
    assert last == LastWords(line="epoch 3")
    alone = ["Exception ignored in: <_io.TextIOWrapper name='<stdout>' mode='w'>", "BrokenPipeError: [Errno 32]"]
    assert without_clients(["epoch 3", *alone]) == ["epoch 3"]


def test_a_panic_of_wandb_core_is_told_from_the_programs_own() -> None:
    clients = PANIC.format(package="github.com/wandb/wandb/core/internal/stream").splitlines()
    own = PANIC.format(package="example.com/train").splitlines()
    assert without_clients(["epoch 3", *clients, "the service died"]) == ["epoch 3", "the service died"]
    assert without_clients(["epoch 3", *own, "exit status 2"]) == ["epoch 3", *own, "exit status 2"]


def test_an_exit_at_the_begin_of_a_log_leaves_nothing() -> None:
    assert without_clients(["Traceback (most recent call last):", '  File "train.py", line 3', "SystemExit: 3"]) == []


EXITS = """
import sys
import wandb
with wandb.init(mode="offline"):
    print("no such data set: mnist", flush=True)
    try:
        raise ValueError("no data") if sys.argv[1:] == ["chain"] else SystemExit({exited})
    except ValueError:
        sys.exit(3)
"""


@pytest.mark.parametrize(
    ("exited", "arguments", "words"),
    [
        (1, [], "failed: no such data set: mnist"),
        (2, [], "failed with exit status 2: no such data set: mnist"),
        ("'no GPU'", [], "failed: no GPU"),
        (3, ["chain"], "failed with exit status 3: ValueError: no data"),
    ],
)
def test_what_the_client_prints_of_an_exit_is_no_last_word(
    exited: object, arguments: list[str], words: str, tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    program = EXITS.format(exited=exited)
    with log.open("w") as output:
        ended = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert "SystemExit" in log.read_text()
    assert LastWords.read(log, ended.returncode).told(ended.returncode) == words
