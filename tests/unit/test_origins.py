"""A wrong value of a template is told with the template's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandb_submit.errors import ConfigError
from wandb_submit.options import blame
from wandb_submit.options import build as config
from wandb_submit.options.table import Options
from wandb_submit.spec import ArraySpec, SubmissionSpec


def build(options: Options) -> SubmissionSpec:
    return config.build_spec(
        options, workdir=Path("/w"), pick_executor=lambda _: "slurm", default_array=lambda *_: ArraySpec(count=1)
    )


def problems(options: Options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(options)
    return str(blame.named(caught.value, options, build)).splitlines()


@pytest.fixture
def site(tmp_path: Path) -> str:
    path = tmp_path / "site.yaml"
    path.write_text("mem: lots\ntme: 1\nsbatch: {output: x}\nenv: {A-B: 1}\nsetup: 'if'\n")
    return str(path)


def test_each_problem_of_a_template_is_marked(site: str) -> None:
    found = problems(Options(templates=(site,)))
    assert len(found) == 5
    assert all(problem.endswith(f" (in the template {site})") for problem in found)


def test_what_was_typed_is_not_the_templates(site: str) -> None:
    found = problems(Options(templates=(site,), mem="much", count=0))
    assert [problem for problem in found if "in the template" not in problem] == [
        "--mem 'much' is not a memory size: write for example 16G or 500M",
        "--count 0 is not a whole number of at least 1",
    ]
    same = problems(Options(templates=(site,), mem="lots"))
    assert [problem for problem in same if "--mem" in problem and "in the template" in problem] == []


def test_of_several_templates_the_one_that_counts_is_named(site: str, tmp_path: Path) -> None:
    (tmp_path / "last.yaml").write_text("mem: lots\n")
    last = str(tmp_path / "last.yaml")
    (memory,) = [problem for problem in problems(Options(templates=(site, last))) if "--mem" in problem]
    assert memory.endswith(f"(in the template {last})")
