"""The documentation's blocks work as they stand, and its generated pages are up to date."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml
from support import ROOT, Shell

from wandb_submit.cli import main
from wandb_submit.options.build import check_template
from wandb_submit.options.documentation import page
from wandb_submit.options.table import TABLE
from wandb_submit.wandb_api.sweep_configs import remarks

DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)
# A command: in a console block, in an indented block, or in the shell's $(…).
_COMMAND = re.compile(r"(?:^(?:\$ |    )|\$\()(wandb-submit [^)\n]*)", re.MULTILINE)
PAGES = sorted(
    [*(path for path in DOCS.rglob("*.md") if "_build" not in path.parts), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
)


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
    for path in PAGES:
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


_PROGRAMS = [block for block in blocks("python") if block.page in ("README.md", "docs/guides/python-and-notebooks.md")]


@pytest.mark.parametrize("block", _PROGRAMS, ids=lambda block: block.page)
def test_the_programs_of_the_pages_work(first_sweep: Shell, block: Block) -> None:
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
def test_yaml_blocks_are_sweeps_or_templates(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchrun").touch(mode=0o755)  # a command that is not on PATH is a slip
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    content = yaml.safe_load(block.text)
    if "method" in content:
        assert {"program", "method", "parameters"} <= set(content)
        said = remarks(content)
        assert said.errors + said.warnings == []
    else:
        (tmp_path / "template.yaml").write_text(block.text)
        check_template(str(tmp_path / "template.yaml"), lambda _: "slurm")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    context = main.make_context("wandb-submit", ["status"])
    for command in _COMMAND.findall(page.read_text().replace("\\\n", "")):
        words = command.partition("#")[0].split()
        name = words[1] if words[1] in main.list_commands(context) else "submit"
        wanted = main.get_command(context, name)
        assert wanted is not None
        group = getattr(wanted, "commands", {})
        if group:
            assert words[2] in group, command
            wanted = group[words[2]]
        known = {option for parameter in wanted.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= known, command


def all_options(command: click.Command) -> set[str]:
    """The options of a command and of those below it."""
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*(all_options(below) for below in getattr(command, "commands", {}).values()))


# These two pages also name options of other programs.
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.stem not in ("offline-server", "benchmarks")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_options_in_sentences_exist(page: Path) -> None:
    context = main.make_context("wandb-submit", ["status"])
    ours = [main, *(main.get_command(context, name) for name in main.list_commands(context))]
    known = set().union(*(all_options(command) for command in ours if command is not None))
    others = {"--help", "--test-only", "--from", "--option"}  # click's, sbatch's, uvx's, and one that stands for any
    named = [code for code in re.findall(r"`([^`\n]+)`", page.read_text()) if "--" in code]
    assert {word for code in named for word in re.findall(r"(?:^|\s)(--[a-z][a-z-]*)", code)} - known - others == set()


def test_the_page_about_operating_works(first_sweep: Shell) -> None:
    begun = first_sweep.json("sweep.yaml", "--offline", "--executor", "local", "--array", "2", timeout_s=280)
    submission = first_sweep.submission(begun["id"])
    run = next(path.stem for path in (submission / "runs").glob("*.log"))
    steps = [step for block in of("guides/operating.md", "console") for step in commands_of(block.text)]
    assert len(steps) > 7
    for command, _ in steps:
        typed = command.partition("#")[0].replace("ID", submission.name).replace("RUN", run)
        done = first_sweep.call("bash", "-c", typed)
        assert done.returncode == 0, f"{typed}: {done.stderr}"
    assert (submission / "halt").exists()


def test_the_page_about_templates_works(first_sweep: Shell) -> None:
    (template,) = of("guides/environments-and-templates.md", "yaml")
    assert template.file is not None
    (first_sweep.folder / template.file).write_text(template.text)
    (block,) = of("guides/environments-and-templates.md", "console")
    *looks, (submit, _) = commands_of(block.text)
    for command, _ in looks:
        done = first_sweep.call("bash", "-c", command)
        assert done.returncode == 0, done.stderr
    local = submit.replace("k3f9x2ab", "sweep.yaml --offline --executor local --gpus-per-task 0 -c 1 --dry-run")
    done = first_sweep.call("bash", "-c", local)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/development/testing.md"])
def test_targets_of_make_and_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    known = {*targets[1].split(), "unit", "contract", "cli", "offline", "local", "slurm"}
    assert set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE)) <= known
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_the_page_of_options_is_up_to_date() -> None:
    assert (DOCS / "reference" / "options.md").read_text() == page(), "run `make reference`"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "site")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "site" / "reference" / "cli.html").read_text()
    assert [name for name in TABLE if name.replace("_", "-").removesuffix("s") not in options] == []
