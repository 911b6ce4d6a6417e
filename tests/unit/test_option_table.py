"""The one table of options: what is declared there is a flag, a line of help, a template key and a keyword."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import wandb_submit
from wandb_submit.cli._options import given, submission_options
from wandb_submit.options import keywords, values
from wandb_submit.options.build import build_spec, check_template
from wandb_submit.options.documentation import documented, page
from wandb_submit.options.table import TABLE, Group, Opt, Options, flag
from wandb_submit.spec import SubmissionSpec


def build(options: Options) -> SubmissionSpec:
    return build_spec(
        options, workdir=Path("/w"), pick_executor=lambda name: name, default_array=lambda spec: spec.array
    )


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch) -> str:
    """An option that is only declared."""
    option = Opt(help="Colour of the runs. Default: grey.", group=Group.RUNS, metavar="NAME", read=values.number(3))
    monkeypatch.setitem(TABLE, "run_colour", option)  # type: ignore[arg-type]
    monkeypatch.setitem(Options.__annotations__, "run_colour", int | None)
    return "run_colour"


def test_a_declaration_is_all_that_an_option_needs(colour: str, tmp_path: Path) -> None:
    @click.command()
    @submission_options
    def command(**options: object) -> None:
        click.echo(given(options))

    assert "--run-colour NAME" in CliRunner().invoke(command, ["--help"]).output
    assert CliRunner().invoke(command, ["--run-colour", "5"]).output == "{'run_colour': '5'}\n"
    (tmp_path / "t.yaml").write_text("run-colour: 2")
    with pytest.raises(wandb_submit.WandbSubmitError, match="--run-colour '2' is not a whole number of at least 3"):
        check_template(str(tmp_path / "t.yaml"), lambda name: name)
    keywords.check([colour])

    @documented
    def submit(**options: object) -> None:
        """Submits.

        Args:
            options: all of them.

        Raises:
            ValueError: never.
        """

    assert colour in inspect.signature(submit).parameters
    assert "run_colour: Colour of the runs. Default: grey.\n" in (submit.__doc__ or "")
    assert "| `--run-colour NAME` | `run-colour`, `run_colour` | Colour of the runs. Default: grey. |" in page()


@pytest.mark.parametrize("name", TABLE)
def test_help_is_one_line_that_says_what_it_is_for(name: str) -> None:
    text = TABLE[name].help
    assert len(text) <= 76, text
    assert text[0].isupper() or text.startswith(("native", "slurm", "N "))
    assert text.endswith(".")


def test_few_options_stand_first_and_no_two_share_a_letter() -> None:
    assert sum(option.first for option in TABLE.values()) <= 6  # with --offline and --dry-run
    letters = [option.short for option in TABLE.values() if option.short]
    assert len(letters) == len(set(letters))


def test_none_is_not_given_so_that_a_template_counts(tmp_path: Path) -> None:
    template = tmp_path / "t.yaml"
    template.write_text("executor: local\ngpus-per-task: 2\n")
    spec = build({"templates": [str(template)], "executor": None, "gpus_per_task": None, "mem": None})
    assert (spec.executor, spec.gpus_per_task) == ("local", 2)


def test_values_from_python_are_taken_as_they_are() -> None:
    options: Options = {
        "executor": "slurm",
        "array": 4,
        "env": {"A": "b=c, d"},
        "setup": ["x=1; y"],
        "preload": ["a.b"],
    }
    spec = build(options)
    assert spec.activation.env == {"A": "b=c, d"}
    assert spec.activation.setup == ("x=1; y",)
    assert str(spec.array) == "4"
    with pytest.raises(wandb_submit.WandbSubmitError, match="--env A=B: not the name of a variable"):
        build({"executor": "slurm", "env": {"A=B": "c"}})


def test_submits_signature_has_every_option() -> None:
    parameters = inspect.signature(wandb_submit.submit).parameters
    assert set(TABLE) <= set(parameters)
    assert all(parameters[name].default is None for name in TABLE)
    assert [flag(name) for name in TABLE if f"    {name}: " not in (wandb_submit.submit.__doc__ or "")] == []
