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
