"""The package's own rules: who may import whom, and what is heavy is imported where it is used."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import wandb_submit

ROOT = Path(wandb_submit.__file__).parent

# Lowest first. `credentials`, `sources` and `halts` stand above the values and files that they take.
LEVELS = (
    {"answers", "client_noise", "daemon_thread", "errors", "kinship", "metrics", "states", "sweep_commands", "wording"},
    {
        "specs",
        "paths",
        "files",
        "process",
        "events",
        "run_logs",
        "templates",
        "gpu_variables",
        "sbatch_options",
        "direct_connections",
        "proxied_connections",
        "proxies",
        "sweep_names",
        "sweep_configs",
    },
    {"credentials", "sources", "halts", "activation", "interpreter", "keywords", "ranks", "setup_needs", "transport"},
    {"config", "devices", "functions", "preloads", "sweeps", "records", "agent"},
    {"lookup", "origins", "siblings", "executors", "server"},
    {"snapshot", "onward", "doctor"},
    {"submission", "endpoints"},
    {"notebook"},
    {"api"},
    {"cli"},
    {"__main__", "run_module"},
)
LIGHT = {
    "errors",
    "states",
    "specs",
    "paths",
    "files",
    "events",
    "halts",
    "credentials",
    "kinship",
    "metrics",
    "process",
    "answers",
    "client_noise",
    "direct_connections",
    "transport",
    "proxies",
    "gpu_variables",
    "daemon_thread",
    "interpreter",
    "run_logs",
    "wording",
}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
# submitit's plugins tell it to requeue by leaving with a status of their own; it runs them in a task's process,
# which leaves with it, too: a fork must not go back into its scheduler.
MAY_EXIT = {Path("executors/plugin.py"), Path("executors/local/task.py")}


@dataclass(frozen=True)
class Import:
    """One import of a module.

    Attributes:
        name: what is imported, with its package.
        lazy: whether it stands in a function.
        typing: whether it is for type checkers alone.
    """

    name: str
    lazy: bool
    typing: bool


def imports(module: Path) -> Iterator[Import]:
    yield from _imports(ast.parse((ROOT / module).read_text()), lazy=False, typing=False)


def _imports(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (Import(alias.name, lazy, typing) for alias in names)
            case ast.ImportFrom(module=str(source), names=names, level=0):
                for alias in names:
                    inside = _is_module(f"{source}.{alias.name}")
                    yield Import(f"{source}.{alias.name}" if inside else source, lazy, typing)
            case ast.ImportFrom():
                pytest.fail("a relative import hides its level")
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imports(child, lazy=lazy, typing=True)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _imports(child, lazy=True, typing=typing)
            case _:
                yield from _imports(child, lazy=lazy, typing=typing)


def _is_module(name: str) -> bool:
    package, *rest = name.split(".")
    path = ROOT.joinpath(*rest)
    return package == "wandb_submit" and (path.is_dir() or path.with_suffix(".py").is_file())


def part(name: str) -> str:
    """The part of the package that a module belongs to: `wandb_submit.agent.sweep_agent` is of `agent`."""
    return [*name.split("."), ""][1]


def own_part(module: Path) -> str:
    return module.with_suffix("").parts[0]


def level(name: str) -> int:
    return next(number for number, parts in enumerate(LEVELS) if name in parts)


def importers_of(package: str) -> dict[Path, list[Import]]:
    found = {module: [item for item in imports(module) if item.name.split(".")[0] == package] for module in MODULES}
    return {module: items for module, items in found.items() if items}


def calls(module: Path) -> set[str]:
    """What is called in a module, as it is written there."""
    tree = ast.parse((ROOT / module).read_text())
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def is_program(module: Path) -> bool:
    return module.name == "__main__.py" or '\nif __name__ == "__main__":\n' in (ROOT / module).read_text()


PARTS = [module for module in MODULES if module != Path("__init__.py")]


def test_every_part_of_the_package_has_a_level() -> None:
    assert {own_part(module) for module in PARTS} == set().union(*LEVELS)


@pytest.mark.parametrize("module", PARTS, ids=str)
def test_a_module_imports_only_lower_levels_and_its_own_part(module: Path) -> None:
    own = own_part(module)
    parts = {part(item.name) for item in imports(module) if item.name.startswith("wandb_submit.")}
    assert [name for name in parts - {own} if level(name) >= level(own)] == []


@pytest.mark.parametrize("folder", ["agent", "server"])
def test_what_runs_for_itself_imports_the_lowest_levels_alone(folder: str) -> None:
    modules = [module for module in PARTS if own_part(module) == folder]
    parts = {part(item.name) for module in modules for item in imports(module) if item.name.startswith("wandb_submit.")}
    assert parts - {folder} <= LIGHT


@pytest.mark.parametrize("module", [module for module in PARTS if module.parent.name == "programs"], ids=str)
def test_what_runs_in_the_trainings_environment_needs_python_3_8_alone(module: Path) -> None:
    ast.parse((ROOT / module).read_text(), feature_version=(3, 8))
    assert {item.name.partition(".")[0] for item in imports(module)} <= sys.stdlib_module_names


def test_wandb_is_imported_by_one_module_and_only_where_it_is_used() -> None:
    found = importers_of("wandb")
    assert set(found) == {Path("sweeps.py")}
    assert [item for item in found[Path("sweeps.py")] if not (item.lazy or item.typing)] == []


def test_submitit_is_imported_by_executors_and_only_late_by_their_task() -> None:
    found = importers_of("submitit")
    task = Path("agent/task.py")
    assert {module for module in found if own_part(module) != "executors"} == {task}
    assert [item for item in found[task] if not (item.lazy or item.typing)] == []


def test_programs_are_started_in_one_place() -> None:
    starters = {module for module in MODULES if any(call.startswith("subprocess.") for call in calls(module))}
    assert starters == {Path("process.py")}


@pytest.mark.parametrize("module", [module for module in PARTS if own_part(module) != "cli"], ids=str)
def test_below_the_command_line_nobody_prints_or_exits(module: Path) -> None:
    if is_program(module):
        return
    forbidden = {"print", "exit", "quit"} | (set() if module in MAY_EXIT else {"sys.exit"})
    assert calls(module) & forbidden == set()
    assert "SystemExit" not in (ROOT / module).read_text()


def test_those_that_may_exit_are_there_and_do() -> None:
    assert all("sys.exit(" in (ROOT / module).read_text() for module in MAY_EXIT)
