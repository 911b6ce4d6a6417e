"""What holds for every tier: nothing is skipped, no tier is empty, and nobody's own settings leak in."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, Shell, scrubbed

# What a shell starts in the background ignores Ctrl-C, and behind nohup its hanging up; so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
_skipped: list[str] = []
_files: set[Path] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _files.add(ROOT / report.nodeid.partition("::")[0])
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # Side by side, the process that collects the reports of the others looks at them, and only that one.
    options = session.config.option
    if hasattr(session.config, "workerinput") or options.collectonly:
        return
    if _skipped:
        print(f"\nskipped tests count as failed: {', '.join(_skipped)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    folders = [Path(argument.partition("::")[0]).absolute() for argument in session.config.args]
    empty = [folder for folder in folders if folder.is_dir() and not any(folder in file.parents for file in _files)]
    if empty and session.exitstatus == pytest.ExitCode.OK and not options.keyword and not options.markexpr:
        print(f"\na tier without tests counts as failed: {', '.join(map(str, empty))}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Where tests are given out one by one, these go to one process: it takes half a minute to make.
    for item in items:
        if "installed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("installed"))


@pytest.fixture(scope="session")
def clean_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment as on a fresh machine, with a home folder and device locks of its own."""
    home = tmp_path_factory.mktemp("home")
    return {**scrubbed(home), "WANDB_SUBMIT_LOCK_DIR": str(tmp_path_factory.mktemp("locks"))}


@pytest.fixture
def shell(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Shell]:
    """A person in an empty folder; the offline server that they may start ends with the test."""
    shell = Shell(folder=tmp_path, env=clean_env)
    yield shell
    shell.leave()


@pytest.fixture(scope="module")
def offline_shell(tmp_path_factory: pytest.TempPathFactory, clean_env: dict[str, str]) -> Iterator[Shell]:
    """A person in a folder of its own whose offline server runs for all tests of a module."""
    shell = Shell(folder=tmp_path_factory.mktemp("folder"), env=clean_env)
    shell.ok("server", "start")
    yield shell
    shell.leave()


@pytest.fixture(scope="session")
def installed() -> Iterator[Path]:
    """The `bin` folder of an environment into which the built wheel is installed, for every user to run."""
    folder = Path(tempfile.mkdtemp(prefix="wandb-submit-wheel-", dir="/var/tmp"))
    folder.chmod(0o755)
    dist = folder / "dist"
    call = functools.partial(subprocess.run, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist)])
    # The system's Python where there is one: other users may not be able to run ours.
    python = next((path for path in ("/usr/bin/python3",) if Path(path).exists()), sys.executable)
    call([sys.executable, "-m", "virtualenv", "--quiet", "--python", python, str(folder / "env")])
    (wheel,) = dist.glob("*.whl")
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    call([*pip, "install", f"{wheel}[offline]"], stderr=subprocess.DEVNULL)
    call([*pip, "install", "--no-deps", "sweeps"], stderr=subprocess.DEVNULL)  # which it asks for from Python 3.13 on
    yield folder / "env" / "bin"
    shutil.rmtree(folder)


@pytest.fixture
def public_tmp() -> Iterator[Path]:
    """A folder that every user of this machine may read and write, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="wandb-submit-test-", dir="/var/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)
