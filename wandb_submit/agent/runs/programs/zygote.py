"""Imports modules once and then forks a sweep's runs from itself, each of which finds them already there.

An agent starts it with the runs' own interpreter and talks to it over a socket, in lines of JSON. First the zygote
says one of `{"ready": PID}`, `{"refused": WHY}` (runs have to start cold) and `{"failed": WHY}` (a module that was
asked for cannot be imported). Then it answers each `{"argv": ..., "env": ..., "cwd": ..., "log": ...}` with
`{"pid": PID}` or `{"error": WHY}`, and tells of each end, `{"ended": PID, "status": WAIT_STATUS}`. It ends when the
agent does.

A run is forked from the main thread of a process with no other thread; it then is what `python train.py` or `python -m
train` would be, down to `__main__`, and leaves through the interpreter's own end.

It needs Python 3.8 and nothing else: it runs in the environment of the training.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import gc
import importlib
import importlib.machinery
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import traceback
import types
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
# What older versions of torch begin with (c10/core/GeneratorImpl.h); newer ones draw a seed when they are imported.
_TORCHS_FIXED_SEED = 67280421310721
_ACCELERATORS = ("/dev/nvidia", "/dev/dxg", "/dev/kfd", "/dev/dri/", "/dev/accel")  # the second is WSL's
_LOOKS, _BETWEEN_LOOKS_S = 20, 0.05
# What `__main__` has in the versions of Python that give it to us as well.
_ONLY_SOME_VERSIONS = ("__annotations__", "__cached__")
# What would end the zygote and is meant for runs; a run gets them as soon as it has its own handlers back.
_HELD_BACK = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}


class Control:
    """The agent's end of the line."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self._received = b""

    def say(self, **message: object) -> None:
        """Sends a message; an agent that has gone does not matter any more."""
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def receive(self) -> list[dict] | None:  # type: ignore[type-arg]  # as JSON has them
        """The requests that are there; `None` if the agent has gone."""
        data = self.socket.recv(65536)
        if not data:
            return None
        *whole, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in whole]


class Zygote:
    """What forks runs, and waits for them.

    Args:
        control: the line to the agent.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._pid = os.getpid()
        self._runs: set[int] = set()
        self._handler = signal.getsignal(signal.SIGCHLD) or signal.SIG_DFL
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without one nobody would be woken
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        self._woken, self._on_signal = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._on_signal, False)
        signal.set_wakeup_fd(self._on_signal, warn_on_full_buffer=False)

    def serve(self) -> dict | None:  # type: ignore[type-arg]  # as above
        """Forks runs until the agent goes; in each run it returns what that is to be."""
        while True:
            ready, _, _ = select.select([self._control.socket.fileno(), self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.socket.fileno() in ready:
                requests = self._control.receive()
                if requests is None:
                    return None
                for request in requests:
                    if self._fork(request):
                        return request

    def _fork(self, request: dict) -> bool:  # type: ignore[type-arg]  # as above
        """Whether we are the run that was to be forked."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._control.say(error=error.strerror)
            return False
        if pid == 0:
            self._become_run(request)
            return True
        try:
            os.setpgid(pid, pid)  # the agent may send its group a signal as soon as it knows of it
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.ESRCH):  # it has come further already
                raise
        self._runs.add(pid)
        self._control.say(pid=pid)
        return False

    def _reap(self) -> None:
        for run in list(self._runs):
            pid, status = os.waitpid(run, os.WNOHANG)
            if pid:
                self._runs.discard(pid)
                self._control.say(ended=pid, status=status)

    def _become_run(self, request: dict) -> None:  # type: ignore[type-arg]  # as above
        """Makes a forked process what one would be that was started by itself."""
        if os.getpgid(0) != os.getpid():
            os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(1)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        self._control.socket.close()
        signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._on_signal)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        _draw_new_seeds()
        signal.signal(signal.SIGCHLD, self._handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _draw_new_seeds() -> None:
    """Lets each run draw its own random numbers where it would, started by itself; `random` sees to that alone."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    generator = getattr(sys.modules.get("torch"), "default_generator", None)
    if generator is not None and generator.initial_seed() != _TORCHS_FIXED_SEED:
        generator.seed()


def preload(modules: list[str], *, required: bool) -> str | None:
    """Imports modules; returns why that failed, where it is required."""
    for name in modules:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 a module may raise anything; it is reported
            traceback.print_exc()
            if required:
                return f"{name}: {type(error).__name__}: {error}"
    return None


def why_not_to_fork(descriptors_before: set[str]) -> str | None:
    """Why a copy of this process would not be whole; `None` if it would.

    The numerical libraries (OpenBLAS) end their threads before a fork and start them again when they compute: only
    what is there after a first fork is lost in copies.
    """
    if not hasattr(os, "fork"):
        return "this platform cannot fork"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    own = str(os.getpid())
    for _ in range(_LOOKS):  # what has been told to end may be seen for a moment longer
        threads = [thread for thread in _names_in("/proc/self/task") if thread != own]
        if not threads:
            break
        time.sleep(_BETWEEN_LOOKS_S)
    else:
        return f"an imported module has started {len(threads)} thread{'s' * (len(threads) > 1)}"
    if _read(f"/proc/self/task/{own}/children"):
        return "an imported module has started another process"
    opened = open_descriptors() - descriptors_before
    if devices := sorted(path for path in opened if path.startswith(_ACCELERATORS)):
        return f"an imported module has opened the GPU ({', '.join(devices)})"
    if any(path.startswith("socket:") for path in opened):
        return "an imported module has opened a connection"
    return None


def open_descriptors() -> set[str]:
    """What this process has open."""
    found = set()
    for number in _names_in("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115 not a file's path
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def _names_in(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def _read(path: str) -> str:
    with Path(path).open() as file:
        return file.read().strip()


def run_program(argv: list[str]) -> None:
    """Runs a program as `python ARGV...` does: a file, or `-m` and a module, and its arguments.

    What it raises comes out of here; its traceback has been shown without our part of it.
    """
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [*sys.orig_argv[: sys.orig_argv.index(__file__)], *argv]
    main = types.ModuleType("__main__")
    vars(main).update(
        {name: {} if name == "__annotations__" else None for name in _ONLY_SOME_VERSIONS if name in globals()},
        __builtins__=builtins,
    )
    ours = sys.modules["__main__"]
    names = [name for name, module in sys.modules.items() if module is ours]  # multiprocessing's `__mp_main__`, too
    sys.modules.update(dict.fromkeys(names, main))
    try:
        if argv[0] == "-m":
            sys.argv = ["-m", *argv[2:]]
            runpy._run_module_as_main(argv[1])  # type: ignore[attr-defined]  # what Python itself calls
        else:
            sys.argv = argv
            _run_file(argv[0], main)
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        error.__traceback__ = trace
        sys.excepthook(type(error), error, trace)
        sys.excepthook = lambda *_: None
        raise


def _run_file(name: str, main: types.ModuleType) -> None:
    """Runs a Python file as what `__main__` is."""
    path = os.path.abspath(name)  # noqa: PTH100 light
    vars(main).update(
        __file__=path if sys.version_info >= (3, 9) else name,
        __loader__=importlib.machinery.SourceFileLoader("__main__", path),
    )
    try:
        with Path(path).open("rb") as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)  # noqa: T201 as Python does
        sys.exit(2)
    exec(compile(source, main.__file__ or path, "exec", dont_inherit=True), vars(main))  # noqa: S102 what we are for


def main() -> None:
    """Imports, serves, and in each run goes on as the run's program."""
    asked = json.loads(sys.argv[1])
    control = Control(asked["socket"])
    control.socket.set_inheritable(False)
    if not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        sys.path[:1] = asked["folders"]
    before = open_descriptors()
    failure = preload(asked["modules"], required=asked["required"])
    if failure is not None:
        control.say(failed=failure)
        return
    refusal = why_not_to_fork(before)
    if refusal is not None:
        control.say(refused=refusal)
        return
    gc.collect()
    gc.freeze()  # so that a run's collector does not write to, and thereby copy, what all share
    zygote = Zygote(control)
    control.say(ready=os.getpid())
    request = zygote.serve()
    if request is not None:
        run_program(request["argv"])


if __name__ == "__main__":
    main()
