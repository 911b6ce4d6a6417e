"""The documentation's blocks work as they stand, and its generated pages are up to date."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support import ROOT, Shell

from wandb_submit.cli import main
from wandb_submit.options.build import check_template
from wandb_submit.options.documentation import page
from wandb_submit.options.table import TABLE

DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code of a page; `file` is what it is to be saved as, if it says so."""

    page: str
    language: str
    file: str | None
    text: str


def blocks(*languages: str) -> list[Block]:
    return list(_blocks(*languages))


def _blocks(*languages: str) -> Iterator[Block]:
    for path in sorted([*DOCS.rglob("*.md"), ROOT / "README.md"]):
        if "_build" in path.parts:
            continue
        for language, file, text in _BLOCK.findall(path.read_text()):
            if language in languages:
                yield Block(str(path.relative_to(ROOT)), language, file or None, text)


def of(name: str, *languages: str) -> list[Block]:
    found = [block for block in blocks(*languages) if block.page == f"docs/{name}"]
    assert found
    return found


def commands_of(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown below it."""
    found: list[tuple[str, str]] = []
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), ""))
        else:
            command, output = found.pop()
            found.append((command, f"{output}{line}\n"))
    return found


def matches(output: str, shown: str) -> bool:
    """Whether an output is what is shown, in which `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in shown.split("..."))
    return re.fullmatch(pattern, output, re.DOTALL) is not None


@pytest.fixture
def first_sweep(shell: Shell) -> Shell:
    """A person in a folder with the files of the page about the first sweep."""
    for block in of("getting-started/offline.md", "python", "yaml"):
        assert block.file is not None
        (shell.folder / block.file).write_text(block.text)
    return shell


def test_the_page_about_the_first_sweep_works_line_by_line(first_sweep: Shell) -> None:
    steps = [step for block in of("getting-started/offline.md", "console") for step in commands_of(block.text)]
    marker = "@@@ next @@@"
    script = "".join(f"{command} 2>&1 || exit 1\necho '{marker}'\n" for command, _ in steps)
    done = first_sweep.call("bash", "-c", script, timeout_s=280)
    outputs = done.stdout.split(f"{marker}\n")
    assert done.returncode == 0, done.stdout
    for (command, shown), output in zip(steps, outputs[:-1], strict=True):
        assert matches(output, shown), f"{command}\n--- shown\n{shown}\n--- printed\n{output}"


@pytest.mark.parametrize("block", of("guides/python-and-notebooks.md", "python"), ids=range(2))
def test_the_page_about_python_works(first_sweep: Shell, block: Block) -> None:
    program = first_sweep.folder / "program.py"
    program.write_text(block.text)
    done = first_sweep.call(sys.executable, str(program), timeout_s=280)
    assert done.returncode == 0, done.stderr
    seen = first_sweep.json("status")
    assert seen["runs_done"] > 0
    assert [task["failed"] for task in seen["tasks"] if task["failed"] or task["state"] != "completed"] == []


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.page)
def test_python_blocks_are_python(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.page)
def test_yaml_blocks_are_sweeps_or_templates(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    if "method" in content:
        assert {"program", "method", "parameters"} <= set(content)
    else:
        (tmp_path / "template.yaml").write_text(block.text)
        check_template(str(tmp_path / "template.yaml"), lambda _: "slurm")


@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: f"{block.page}")
def test_console_blocks_name_commands_and_options_that_exist(block: Block) -> None:
    context = main.make_context("wandb-submit", ["status"])
    for command, _ in commands_of(block.text):
        words = command.partition("#")[0].split()
        if words[0] != "wandb-submit":
            continue
        name = words[1] if words[1] in main.list_commands(context) else "submit"
        wanted = main.get_command(context, name)
        assert wanted is not None
        group = getattr(wanted, "commands", {})
        wanted = group.get(words[2], wanted) if len(words) > 2 else wanted
        known = {option for parameter in wanted.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, command


def test_the_page_of_options_is_up_to_date() -> None:
    assert (DOCS / "reference" / "options.md").read_text() == page(), "run `make reference`"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "site")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "site" / "reference" / "cli.html").read_text()
    assert [name for name in TABLE if name.replace("_", "-").removesuffix("s") not in options] == []
