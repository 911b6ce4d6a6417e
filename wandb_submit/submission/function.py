"""A function that runs call, as it travels to them: pickled by value, so that it may be defined in a notebook."""

from __future__ import annotations

import dis
import io
import linecache
import marshal
import os
import pickle
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from wandb_submit.errors import ConfigError
from wandb_submit.spec import Preload
from wandb_submit.store.paths import SubmissionPaths


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A pickled function; `agent/runs/programs/function.py` calls it.

    Attributes:
        data: first what it needs to be read (a dictionary of the version of `python` that code in it is for, `folders`
            for `sys.path`, and the `sources` of cells that are in no file), then the function itself, then what of
            `__main__` came along.
        preload: what it imports or refers to, which is worth importing once for all runs.
    """

    data: bytes
    preload: Preload

    @classmethod
    def pickle(cls, function: Callable[[], object]) -> Function:
        """Pickles a function with what it refers to, as it is now.

        What `__main__` (a notebook, a script) defines goes along; other modules are imported anew by each run.

        Raises:
            ConfigError: if it is no function, or refers to something that cannot be pickled.
        """
        if not callable(function):
            raise ConfigError(f"function={function!r} is not a function")
        import cloudpickle

        modules: set[str] = set()
        files: set[str] = set()
        codes: list[CodeType] = []
        main = vars(sys.modules["__main__"])
        of_main: dict[str, object] = {}
        knows_main: list[FunctionType] = []

        class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle publishes no types
            """Notes on its way what the function refers to."""

            def reducer_override(self, obj: object) -> object:
                match obj:
                    case ModuleType():
                        modules.add(obj.__name__)
                    case FunctionType() | type():
                        modules.add(obj.__module__)
                name = str(getattr(obj, "__qualname__", ""))
                if isinstance(obj, FunctionType | type) and main.get(name) is obj:
                    of_main[name] = obj
                if isinstance(obj, FunctionType):
                    if obj.__globals__ is main:
                        knows_main[:] = [obj]
                    modules.update(_imports(obj.__code__))
                    files.add(obj.__code__.co_filename)
                if isinstance(obj, CodeType):
                    codes.append(obj)
                    # As it is: cloudpickle gives all code the same file, and a traceback needs the real one.
                    return marshal.loads, (marshal.dumps(obj),)
                return super().reducer_override(obj)

        body = io.BytesIO()
        try:
            pickler = Pickler(body)
            pickler.dump(function)
            pickler.dump((of_main, knows_main))  # by now it knows them
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"the function {getattr(function, '__name__', function)!r} refers to something that cannot travel to "
                f"another process ({error}): make it inside the function, or import it from a module"
            ) from error
        sources = {name: linecache.getlines(name) for name in files if not Path(name).exists()}
        folders = _own_folders()
        about = {
            "python": sys.version_info[:2] if codes else None,
            "folders": folders,
            "sources": {name: lines for name, lines in sources.items() if lines},
        }
        return cls(
            data=pickle.dumps(about) + body.getvalue(),
            preload=Preload(
                modules=tuple(sorted(name for name in modules if _is_worth_importing(name))),
                required=False,
                folders=tuple(folders),
            ),
        )

    def write(self, paths: SubmissionPaths) -> None:
        """Writes it where runs find it, for its owner alone."""
        descriptor = os.open(paths.function, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.data)


def _imports(code: CodeType) -> Iterator[str]:
    """The modules that a function's own statements import, inner functions included."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports(constant)


def _is_worth_importing(name: str) -> bool:
    return bool(name) and name.partition(".")[0] not in {"__main__", "__mp_main__", "builtins", "wandb_submit"}


def _own_folders() -> list[str]:
    """Where this process finds modules that are not its interpreter's: scripts, notebooks, what it has added."""
    paths = sysconfig.get_paths()
    installed = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed += [*site.getsitepackages(), site.getusersitepackages()]
    theirs = tuple(os.path.realpath(folder) + os.sep for folder in installed)
    folders = dict.fromkeys(os.path.realpath(folder) for folder in sys.path)
    return [folder for folder in folders if not f"{folder}/".startswith(theirs) and os.path.exists(folder)]  # noqa: PTH110 light
