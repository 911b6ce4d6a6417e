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

# Who may import whom. A room may import the ones that stand in its row, a whole one or a module of it; a row of several
# names holds for each of them, and none of them imports another.
_GROUND = "_version errors metrics spec system text devices"
MAY_IMPORT = {
    "_version errors metrics text": "",
    "spec system": "errors",
    "devices": "errors system",
    "store options": "errors metrics spec system text devices.variables",
    "wandb_api": f"{_GROUND} store.paths",
    "agent": f"{_GROUND} store wandb_api",
    "executors": f"{_GROUND} store options wandb_api agent",
    "server": "_version errors metrics spec system store.paths wandb_api.http",
    "doctor submission sync": f"{_GROUND} store options wandb_api agent executors server.control server.export",
    "notebook": f"{_GROUND} store options wandb_api submission",
    "cli": f"{_GROUND} store options wandb_api executors doctor submission sync server.control server.export",
    "__main__": "cli",
}
# What agents, of which there may be hundreds, never load: the options, and what costs memory.
RULES = {room: allowed.split() for rooms, allowed in MAY_IMPORT.items() for room in rooms.split()}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
# submitit's plugins tell it to requeue by leaving with a status of their own; it runs them in a task's process,
# which leaves with it, too: a fork must not go back into its scheduler.
MAY_EXIT = {Path("executors/local/submitit_plugin.py"), Path("executors/local/task.py")}


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


def _module(name: str) -> Path:
    """The file of a module by its name; of a room, its own file."""
    path = Path(*name.split(".")[1:])
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def own_part(module: Path) -> str:
    return module.with_suffix("").parts[0]


def allowed(name: str, room: str) -> bool:
    """Whether a room may import a module of another one."""
    module = name.removeprefix("wandb_submit.")
    return any(module == entry or module.startswith(f"{entry}.") for entry in RULES[room])


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


def test_every_room_has_a_rule_and_every_rule_a_room() -> None:
    assert {own_part(module) for module in PARTS} == set(RULES)


def test_no_rule_goes_back_up() -> None:
    """A room that another one may import never may import that one, directly or around others."""

    def above(room: str, seen: tuple[str, ...] = ()) -> None:
        assert room not in seen, f"a circle: {' > '.join([*seen, room])}"
        for entry in RULES[room]:
            above(entry.partition(".")[0], (*seen, room))

    for room in RULES:
        above(room)


@pytest.mark.parametrize("module", PARTS, ids=str)
def test_a_module_imports_only_what_its_room_may(module: Path) -> None:
    own = own_part(module)
    names = [item.name for item in imports(module) if item.name.startswith("wandb_submit.")]
    assert [name for name in names if part(name) != own and not allowed(name, own)] == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {
        module: {
            _module(item.name)
            for item in imports(module)
            if item.name.startswith("wandb_submit.") and not (item.lazy or item.typing)
        }
        & set(MODULES)
        for module in MODULES
    }
    done: set[Path] = set()

    def visit(module: Path, path: tuple[Path, ...]) -> None:
        assert module not in path, f"a circle: {' > '.join(map(str, [*path, module]))}"
        if module not in done:
            for other in graph[module] - {module}:
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", [module for module in PARTS if module.parent.name == "programs"], ids=str)
def test_what_runs_in_the_trainings_environment_needs_python_3_8_alone(module: Path) -> None:
    ast.parse((ROOT / module).read_text(), feature_version=(3, 8))
    assert {item.name.partition(".")[0] for item in imports(module)} <= sys.stdlib_module_names


def test_wandb_is_imported_by_one_module_and_only_where_it_is_used() -> None:
    found = importers_of("wandb")
    assert set(found) == {Path("wandb_api/sweeps.py")}
    assert [item for item in found[Path("wandb_api/sweeps.py")] if not (item.lazy or item.typing)] == []


def test_submitit_is_imported_by_executors_and_only_late_by_their_task() -> None:
    found = importers_of("submitit")
    task = Path("agent/task.py")
    assert {module for module in found if own_part(module) != "executors"} == {task}
    assert [item for item in found[task] if not (item.lazy or item.typing)] == []


def test_programs_are_started_in_one_place() -> None:
    starters = {module for module in MODULES if any(call.startswith("subprocess.") for call in calls(module))}
    assert starters == {Path("system/process.py")}


@pytest.mark.parametrize("module", [module for module in PARTS if own_part(module) != "cli"], ids=str)
def test_below_the_command_line_nobody_prints_or_exits(module: Path) -> None:
    if is_program(module):
        return
    forbidden = {"print", "exit", "quit"} | (set() if module in MAY_EXIT else {"sys.exit"})
    assert calls(module) & forbidden == set()
    tree = ast.parse((ROOT / module).read_text())
    assert "SystemExit" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_those_that_may_exit_are_there_and_do() -> None:
    assert all("sys.exit(" in (ROOT / module).read_text() for module in MAY_EXIT)
