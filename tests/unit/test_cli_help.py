"""Every command and every option says what it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wandb_submit.cli import main
from wandb_submit.cli._words import refuse
from wandb_submit.errors import ConfigError
from wandb_submit.options.sbatch import FLAGS


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path) or "wandb-submit", command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            child = command.get_command(click.Context(command), name)
            assert child is not None, f"{name} is listed but not there"
            yield from commands(child, *path, name)


COMMANDS = dict(commands(main))
OPTIONS = [
    pytest.param(option, id=f"{path} {option.opts[-1]}")
    for path, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
]


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_has_help_that_is_a_sentence(path: str) -> None:
    text = COMMANDS[path].help
    assert text, f"{path} has no help"
    assert text.splitlines()[0].rstrip().endswith((".", ":", ",")) or len(text.splitlines()) > 1


@pytest.mark.parametrize("path", COMMANDS)
def test_no_line_of_the_help_is_cut_short_or_too_long_for_a_terminal_of_80_columns(path: str) -> None:
    names = [] if path == "wandb-submit" else path.split()
    text = CliRunner().invoke(main, [*names, "--help"], terminal_width=80).output
    assert "..." not in text.replace("[ARGS]...", "").replace("[OPTIONS]...", "").replace("...]", "")
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_help(option: click.Option) -> None:
    assert option.help
    assert option.help.endswith(".")
    assert not option.hidden or not option.expose_value  # what is only there to be refused


@pytest.mark.parametrize("args", [["me/vision/k3f9", "--array", "0"], ["--debug", "k3f9", "--array", "0"]])
def test_a_word_that_is_no_command_is_a_sweep_to_submit(args: list[str]) -> None:
    context = main.make_context("wandb-submit", args)
    with context:
        name, command, rest = main.resolve_command(context, [*context._protected_args, *context.args])
    assert (name, command) == ("submit", COMMANDS["submit"])
    assert rest == [arg for arg in args if arg != "--debug"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("statsu", "did you mean status?"),
        ("ls", "did you mean status?"),
        ("logs2", "did you mean logs?"),
        ("runs", "did you mean status?"),
        ("stop", "did you mean cancel?"),
        ("retry", "did you mean submit?"),
        ("Help", "did you mean --help?"),
        ("version", "did you mean --version?"),
        ("login", "did you mean `wandb login`?"),
        ("teh-thing", "they are submit, status, logs, wait, cancel, templates, doctor, server, sync, demo, completion"),
    ],
)
@pytest.mark.parametrize("before", [(), ("--debug",)])
def test_a_plain_word_is_no_sweep(word: str, meant: str, before: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"there is no command {word!r}: {meant} (a sweep is an id, ")):
        main.make_context("wandb-submit", [*before, word, "-l", "more"])


@pytest.mark.parametrize("word", ["describe", "k3f9", "me/ls", "status.yaml"])
def test_what_may_be_a_sweep_is_taken_for_one(word: str) -> None:
    refuse(word)


def test_a_file_is_taken_for_one_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").touch()
    with pytest.raises(ConfigError, match=r"there is no command 'sweep': did you mean sweep\.yaml\?"):
        refuse("sweep")
    Path("sweep").touch()
    refuse("sweep")


def test_every_sbatch_option_with_a_flag_is_an_option_of_submit() -> None:
    options = {name.removeprefix("--") for option in COMMANDS["submit"].params for name in option.opts}
    assert set(FLAGS) <= options


def test_the_help_of_the_whole_lists_every_command() -> None:
    text = main.get_help(click.Context(main, info_name="wandb-submit"))
    assert [path for path in COMMANDS if " " not in path and path not in text] == []
