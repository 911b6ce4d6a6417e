"""Warm runs are compared with cold ones: real interpreters, real forks."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from wandb_submit.agent.runs.launcher import Launcher, PythonCommand, why_cold
from wandb_submit.agent.runs.trial import Trial
from wandb_submit.agent.runs.zygote import ColdStartError, PreloadError
from wandb_submit.spec import Preload
from wandb_submit.system.process import wait_until

# What a program can see of how it was started.
SEEN = """
'''Its words.'''
import os, signal, sys
main = sys.modules["__main__"]
print(sorted(name for name in vars(main) if name != "main"), main is sys.modules[__name__], vars(main) is globals())
print([repr(getattr(main, name)) for name in ("__file__", "__name__", "__package__", "__spec__", "__doc__")])
print(type(main.__loader__).__name__, type(main.__builtins__).__name__)
print(sys.argv, sys.path[0], getattr(sys, "orig_argv", [None])[1:], sys.executable)
print(os.getcwd(), sorted(os.environ.items()))
print(os.getpgid(0) == os.getpid(), repr(sys.stdin.read()), sys.stdout.line_buffering, sys.flags)
print([signal.getsignal(number) for number in signal.valid_signals()], signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in range(10) if os.path.lexists(f"/proc/self/fd/{fd}")))
print("BEHIND", hash("text") if os.environ.get("PYTHONHASHSEED") else "random", os.sched_getaffinity(0))
"""
SPAWNS = """
import multiprocessing, pickle

class Thing:
    def __eq__(self, other):
        return type(self) is type(other)

def work(thing):
    return thing

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.map(work, [Thing()]) == [Thing()], pickle.loads(pickle.dumps(Thing())) == Thing())
"""


def with_launcher(
    folder: Path, then: Callable[[Launcher], Coroutine[Any, Any, None]], *modules: str, **options: Any
) -> list[str]:
    """Lets `then` have a launcher; returns why its runs started cold."""
    cold: list[str] = []

    async def run() -> None:
        preload = options.pop("preload", Preload(modules=modules)) if modules or options else None
        launcher = Launcher(preload, cwd=folder, cores=(), on_cold=cold.append)
        try:
            await then(launcher)
        finally:
            await launcher.close()

    asyncio.run(run())
    return cold


def said(
    folder: Path,
    code: str,
    *modules: str,
    arguments: tuple[str, ...] = (),
    interpreter: tuple[str, ...] = (),
    program: tuple[str, ...] = ("program.py",),
    **env: str,
) -> tuple[str, int, bool]:
    """What a program printed, its exit status, and whether it started warm."""
    (folder / "program.py").write_text(code)
    log = folder / "runs" / "r1.log"
    log.unlink(missing_ok=True)
    ends: list[tuple[int, bool]] = []

    async def run(launcher: Launcher) -> None:
        argv = [*(interpreter or (sys.executable,)), *program, *arguments]
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LC_CTYPE": "C.UTF-8", **env}
        trial = await launcher.start("r1", argv, env=environment, log=log)
        ends.append((await trial.wait(), trial.warm))

    with_launcher(folder, run, *modules)
    return log.read_text(), *ends[0]


@pytest.mark.parametrize(
    ("interpreter", "env"),
    [
        ((sys.executable,), {}),
        (("/usr/bin/env", "python"), {"PYTHONHASHSEED": "5", "A": "b"}),
        ((sys.executable, "-u", "-B"), {}),
        ((sys.executable, "-I"), {}),
        ((sys.executable, "-W", "ignore", "-Xutf8", "-X", "dev"), {}),
    ],
    ids=["plain", "env", "options", "isolated", "values"],
)
def test_a_warm_program_sees_what_a_cold_one_sees(
    tmp_path: Path, interpreter: tuple[str, ...], env: dict[str, str]
) -> None:
    cold = said(tmp_path, SEEN, arguments=("--lr=0.1", "a b"), interpreter=interpreter, **env)
    warm = said(tmp_path, SEEN, "json", "email.message", arguments=("--lr=0.1", "a b"), interpreter=interpreter, **env)
    assert (cold[1:], warm[1:]) == ((0, False), (0, True))
    assert warm[0].splitlines() == cold[0].splitlines()


@pytest.mark.parametrize("module", ["program", "package.program", "package"])
def test_a_warm_module_sees_what_a_cold_one_sees(tmp_path: Path, module: str) -> None:
    (tmp_path / "package").mkdir()
    for name, code in {"__init__": "", "program": SEEN, "__main__": SEEN}.items():
        (tmp_path / "package" / f"{name}.py").write_text(code)
    given = {"program": ("-m", module), "arguments": ("--lr=0.1",)}
    cold, warm = said(tmp_path, SEEN, **given), said(tmp_path, SEEN, "json", **given)
    assert (cold[1:], warm[1:]) == ((0, False), (0, True))
    seen = [re.sub(r" at 0x\w+", "", text).splitlines() for text in (cold[0], warm[0])]
    assert seen[1] == seen[0]


@pytest.mark.parametrize("program", [("program.py",), ("-m", "program")], ids=["file", "module"])
def test_workers_of_every_kind_find_what_a_warm_program_defines(tmp_path: Path, program: tuple[str, ...]) -> None:
    cold = said(tmp_path, SPAWNS, program=program)
    warm = said(tmp_path, SPAWNS, "json", "multiprocessing", program=program)
    assert warm == (cold[0], 0, True)
    assert warm[0] == "fork True True\nspawn True True\nforkserver True True\n"


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    raise KeyError('x')\nf()",
        "import sys; sys.exit('words')",
        "raise KeyboardInterrupt",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
        "import os; os.abort()",
        "import atexit; atexit.register(print, 'at its end'); exit(5)",
        "def broken(:",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start(); print('x')",
    ],
    ids=["exception", "words", "ctrl-c", "signal", "abort", "atexit", "syntax", "threads"],
)
@pytest.mark.parametrize("program", [("program.py",), ("-m", "program")], ids=["file", "module"])
def test_a_warm_program_ends_as_a_cold_one_does(tmp_path: Path, code: str, program: tuple[str, ...]) -> None:
    cold, warm = said(tmp_path, code, program=program), said(tmp_path, code, "json", program=program)
    assert warm == (cold[0], cold[1], True)


@pytest.mark.parametrize("program", [("no.py",), ("-m", "no"), ("-m", "json.no"), ("-m", "json")])
def test_a_program_that_is_not_there_ends_as_python_ends(tmp_path: Path, program: tuple[str, ...]) -> None:
    cold, warm = said(tmp_path, "", program=program), said(tmp_path, "", "json", program=program)
    assert warm == (cold[0], cold[1], True)
    assert warm[1] > 0


@pytest.mark.parametrize("module", ["json", "numpy"])
def test_each_run_draws_its_own_random_numbers(tmp_path: Path, module: str) -> None:
    code = "import random, sys; print(random.random(), 'numpy' in sys.modules and sys.modules['numpy'].random.rand())"
    (tmp_path / "program.py").write_text(code)

    async def run(launcher: Launcher) -> None:
        for name in "ab":
            log = tmp_path / name
            trial = await launcher.start(name, [sys.executable, "program.py"], env=os.environ, log=log)
            assert (trial.warm, await trial.wait()) == (True, 0)

    assert with_launcher(tmp_path, run, module, "random") == []
    first, second = ((tmp_path / name).read_text().split() for name in "ab")
    assert first[0] != second[0]
    assert (first[1] != second[1]) == (module == "numpy")


TORCH = """
class Generator:
    def __init__(self, seed):
        self._seed = seed
    def initial_seed(self):
        return self._seed
    def seed(self):
        import secrets
        self._seed = secrets.randbits(60)
default_generator = Generator({seed})
"""


@pytest.mark.parametrize(("seed", "new"), [(67280421310721, False), (5, True)], ids=["fixed", "drawn"])
def test_torch_draws_a_new_seed_where_it_does_so_at_every_start(tmp_path: Path, seed: int, new: bool) -> None:
    (tmp_path / "torch.py").write_text(TORCH.format(seed=seed))
    code = "import torch; print(torch.default_generator.initial_seed())"
    text, status, warm = said(tmp_path, code, "torch")
    assert (status, warm) == (0, True)
    assert (int(text) != seed) == new


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=[600], daemon=True).start()", "1 thread"),
        ("import subprocess; subprocess.Popen(['sleep', '600'])", "has started another process"),
        ("import socket; kept = socket.socket()", "has opened a connection"),
        ("import os; os._exit(0)", "ended before it had imported the modules"),
        ("import os; del os.fork", "this platform cannot fork"),
    ],
    ids=["threads", "process", "connection", "exit", "platform"],
)  # fmt: skip
def test_a_module_that_cannot_be_shared_lets_runs_start_cold_and_says_why(
    tmp_path: Path, module: str, why: str
) -> None:
    (tmp_path / "odd.py").write_text(module)
    (tmp_path / "program.py").write_text("")

    async def run(launcher: Launcher) -> None:
        for name in "ab":
            trial = await launcher.start(name, [sys.executable, "program.py"], env=os.environ, log=tmp_path / name)
            assert (trial.warm, await trial.wait()) == (False, 0)

    (reason,) = with_launcher(tmp_path, run, "odd")
    assert why in reason


def test_an_opened_gpu_is_a_reason_not_to_fork(tmp_path: Path) -> None:
    code = """
import sys
from wandb_submit.agent.runs.programs import zygote
zygote._ACCELERATORS = (sys.argv[1] + "/nvidia",)
before = zygote.open_descriptors()
print(zygote.why_not_to_fork(before))
kept = [open(sys.argv[1] + name, "w") for name in ("/data", "/nvidia0")]
print(zygote.why_not_to_fork(before))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"None\nan imported module has opened the GPU ({tmp_path}/nvidia0)\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["bash", "run.sh"],
        ["torchrun", "a.py"],
        ["python", "-m"],
        ["python", "-W", "a.py"],
        ["python", "-c", "a.py"],
        ["python"],
    ],
)
def test_other_commands_than_a_python_program_start_cold(argv: list[str]) -> None:
    with pytest.raises(ColdStartError, match=r"not of the form `python PROGRAM\.py` or"):
        PythonCommand.of(argv)


def test_an_interpreter_that_starts_another_one_lets_runs_start_cold(tmp_path: Path) -> None:
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    (tmp_path / "program.py").write_text("")

    async def run(launcher: Launcher) -> None:
        trial = await launcher.start("a", [str(wrapper), "program.py"], env=os.environ, log=tmp_path / "log")
        assert (trial.warm, await trial.wait()) == (False, 0)

    (reason,) = with_launcher(tmp_path, run, "json")
    assert "is not an interpreter itself" in reason


def test_a_module_that_is_required_and_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    async def run(launcher: Launcher) -> None:
        with pytest.raises(PreloadError, match=r"cannot import nonsense: ModuleNotFoundError: No module named"):
            await launcher.prepare([sys.executable, "program.py"], os.environ)

    with_launcher(tmp_path, run, "json", "nonsense")


def test_what_was_guessed_may_be_missing(tmp_path: Path) -> None:
    async def run(launcher: Launcher) -> None:
        await launcher.prepare([sys.executable, "program.py"], os.environ)

    preload = Preload(modules=("nonsense", "json"), required=False)
    assert with_launcher(tmp_path, run, preload=preload) == []


def test_a_zygote_that_dies_takes_its_run_along_and_is_started_again_but_not_for_ever(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import os, time; print(os.getppid(), flush=True); time.sleep(600)")
    log = tmp_path / "log"

    async def run(launcher: Launcher) -> None:
        for times in (1, 2, 3):
            trial = await launcher.start("r", [sys.executable, "program.py"], env=os.environ, log=log)
            assert trial.warm
            await asyncio.to_thread(wait_until, lambda n=times: _lines(log) == n, timeout_s=60)
            os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)
            assert await trial.wait() == -signal.SIGKILL
        trial = await launcher.start("r", [sys.executable, "program.py"], env=os.environ, log=log)
        assert not trial.warm
        trial.kill()
        assert await trial.wait() == -signal.SIGKILL

    assert with_launcher(tmp_path, run, "json") == ["the process that they are forked from has died 3 times"]


@pytest.mark.parametrize("handler", ["", "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"], ids=["none", "TERM"])
def test_a_warm_run_is_told_to_stop_as_a_cold_one(tmp_path: Path, handler: str) -> None:
    (tmp_path / "program.py").write_text(f"import signal, sys, time\n{handler}\nprint(1, flush=True); time.sleep(600)")

    async def stop(trial: Trial, log: Path) -> int:
        await asyncio.to_thread(wait_until, lambda: _lines(log) == 1, timeout_s=60)
        trial.stop("test", kill_after_s=600)
        return await trial.wait()

    async def run(launcher: Launcher) -> None:
        log = tmp_path / "warm"
        warm = await launcher.start("r", [sys.executable, "program.py"], env=os.environ, log=log)
        assert warm.warm
        assert await stop(warm, log) == (7 if handler else -signal.SIGINT)

    with_launcher(tmp_path, run, "json")


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize(
    ("command", "cold"),
    [
        (None, False),
        (["${env}", "python3", "-u", "${program}", "${args}"], False),
        (["python", "-m", "train"], False),
        (["${env}", "torchrun", "${program}", "${args}"], True),
        (["bash", "run.sh"], True),
    ],
)
def test_a_command_that_cannot_be_forked_is_known_beforehand(command: list[str] | None, cold: bool):
    config = {"program": "train.py", "command": command}
    reason = why_cold(Preload(modules=("json",)), config)
    assert (reason is not None) == cold
    assert why_cold(None, config) is None
    if reason is not None:
        assert "not of the form" in reason
