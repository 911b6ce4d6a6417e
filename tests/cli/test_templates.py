"""`wandb-submit templates`: what there is, what it says, and what is wrong with one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Shell


@pytest.mark.parametrize("command", [("list",), ("show", "conda"), ("check", "conda")])
def test_templates_can_be_looked_at(shell: Shell, command: tuple[str, ...]) -> None:
    shown = shell.ok("templates", *command)
    assert "conda" in shown


def test_a_template_of_ones_own_is_listed_shown_and_checked(shell: Shell) -> None:
    folder = Path(shell.env["HOME"]) / ".config" / "wandb-submit" / "templates"
    folder.mkdir(parents=True)
    assert shell.json("templates", "list")[0]["name"] == "apptainer"
    (folder / "site.yaml").write_text("# Our site.\nmem: lots\npartitoin: gpu\n")
    rows = shell.json("templates", "list")
    assert {"name": "site", "description": "Our site.", "path": str(folder / "site.yaml")} in rows
    assert f"Our site.\n{' ' * len('long-with-requeue')}  {folder / 'site.yaml'}\n" in shell.ok("templates", "list")
    assert shell.ok("templates", "show", "site").startswith("# Our site.\nmem: lots")
    bad = shell.run("templates", "check", "site")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "did you mean 'partition'?" in bad.stderr
    assert "--mem 'lots'" in bad.stderr
    missing = shell.run("templates", "show", "sit")
    assert (missing.returncode, missing.stderr) == (3, "Error: no template 'sit'; did you mean 'site'?\n")


def test_what_a_template_needs_and_this_machine_lacks_is_noted(shell: Shell) -> None:
    (shell.folder / "site.yaml").write_text(
        """\
setup:
  - type nosuchmodule >/dev/null 2>&1 || source /etc/profile
  - nosuchmodule load cuda && echo loaded
  - source "$(nosuchconda info --base)/etc/profile.d/conda.sh"
  - source /no/such/activate
  - FLAG=1 cd / ; if true; then export A=1; fi
  - test -r "$IMAGE"  # nosuchcomment
  - scratch="${SCRATCH:-${TMPDIR:-/tmp}/$(id -un)}/mine"; mkdir -p "${scratch%/}"
python: nosuchapptainer exec --nv train.sif python
"""
    )
    done = shell.run("templates", "check", "site.yaml")
    assert (done.returncode, done.stdout) == (0, "site.yaml: all well\n")
    notes = [line.removeprefix("note: ").partition(";")[0] for line in done.stderr.splitlines()]
    assert notes == [
        "no `nosuchmodule` here",
        "no `nosuchconda` here",
        "no file /no/such/activate here",
        "no `nosuchapptainer` here",
    ]


def test_what_the_shell_or_a_login_shell_knows_is_not_noted(shell: Shell) -> None:
    home = Path(shell.env["HOME"])
    (home / ".profile").write_text("nosuchmodule() { true; }\n")
    (home / "activate").write_text("nosuchconda() { true; }\n")
    (shell.folder / "site.yaml").write_text(
        "setup: [nosuchmodule load cuda, source ~/activate, nosuchconda activate vision, 'ls | sort']\n"
    )
    done = shell.run("templates", "check", "site.yaml")
    assert (done.returncode, done.stderr) == (0, "")
