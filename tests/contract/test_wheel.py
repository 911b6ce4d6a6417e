"""The built wheel, installed where there is no checkout."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from support import ROOT, Shell, scrubbed


def test_the_wheel_holds_the_templates_and_its_licence(installed: Path) -> None:
    (wheel,) = (installed.parents[1] / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for template in (ROOT / "slurm_templates").glob("*.yaml"):
        assert f"wandb_submit/slurm_templates/{template.name}" in names
    web = ROOT / "wandb_submit" / "server" / "web"
    pages = [path for folder in ("templates", "static") for path in (web / folder).iterdir()]
    assert len(pages) > 5
    assert {str(path.relative_to(ROOT)) for path in pages} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "wandb_submit/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "examples"))]


def test_the_installed_command_runs_a_sweep_offline(installed: Path, tmp_path: Path) -> None:
    env = {**scrubbed(tmp_path / "home"), "PATH": f"{installed}:/usr/bin:/bin"}
    env["WANDB_SUBMIT_LOCK_DIR"] = str(tmp_path / "locks")
    shell = Shell(folder=tmp_path, env=env)
    where = shell.call("python", "-c", "import wandb_submit; print(wandb_submit.__file__)").stdout
    assert where.startswith(str(installed.parent))
    sweep = shell.sweep("import wandb; wandb.init().log({'loss': 1})", parameters={"x": {"values": [1, 2]}})
    options = ("--offline", "--executor", "local", "--array", "2", "--template", "cpu", "--cpus-per-task", "1")
    answer = shell.json(sweep, *options)
    assert answer["results"]["states"] == {"finished": 2}
    shell.leave()


def test_the_version_is_the_packages(installed: Path) -> None:
    shown = subprocess.run([installed / "wandb-submit", "--version"], capture_output=True, text=True, check=True).stdout
    asked = "from importlib.metadata import version; print(version('wandb-submit'))"
    told = subprocess.run([installed / "python", "-c", asked], capture_output=True, text=True, check=True).stdout
    assert shown.split()[-1] == told.strip()
