"""The quickstart runs from an installed wheel, without a checkout."""

from __future__ import annotations

from pathlib import Path

from support import Shell


def test_the_demo_of_an_installed_wheel_runs_in_a_folder_that_it_names(
    installed: Path, shell: Shell, tmp_path: Path
) -> None:
    person = Shell(folder=tmp_path, env={**shell.env, "PATH": "/usr/bin:/bin"})
    done = person.call(str(installed / "wandb-submit"), "demo", timeout_s=280)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("wandb-submit-demo-*")
    Shell(folder=folder, env=shell.env).leave()
    assert f"in {folder}:" in done.stderr
    assert "runs: 12 (12 finished)" in done.stdout
