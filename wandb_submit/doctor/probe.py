"""A look from a compute node, by a job of one task."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wandb_submit.doctor import wandb_dir
from wandb_submit.doctor.finding import Finding, Verdict
from wandb_submit.errors import WandbSubmitError
from wandb_submit.executors.slurm import cli
from wandb_submit.executors.slurm.refusals import slurms_words
from wandb_submit.store.paths import home
from wandb_submit.system import process
from wandb_submit.wandb_api import sweeps

_QUEUE_S = 60
_TIMEOUT_S = _QUEUE_S + 60.0
_TOPIC = "from a node"
# It asks as the runs' clients do, proxies included; an answer of any kind means that the way is open.
_LOOK = """
import json, os, socket, sys
from wandb_submit.errors import WandbSubmitError
from wandb_submit.wandb_api.http import Transport
mark, url, wandb_dir = sys.argv[1:]
place = wandb_dir
while not os.path.lexists(place):
    place = os.path.dirname(place)
can_write = os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)
try:
    Transport(url, "", offline=False, timeout_s=15).request("GET", url, b"", {})
    why = ""
except WandbSubmitError as error:
    why = str(error)
folder = os.path.exists(mark)
print(json.dumps({"host": socket.gethostname(), "folder": folder, "can_write": can_write, "why": why}))
"""


def findings(place: Mapping[str, str]) -> Iterator[Finding]:
    """Checks what runs will find on a node: our Python, the submission's folder, W&B, a place for wandb's files.

    Args:
        place: where the job goes, by the names of srun's options.
    """
    if shutil.which("srun") is None:
        yield Finding(topic=_TOPIC, words="no Slurm here: nothing to probe")
        return
    try:
        url = sweeps.default_endpoint().base_url
        folder = next(path for path in (home(), *home().parents) if path.exists())
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".wandb-submit-probe-") as mark:
            yield from _looked(Path(mark.name), url, [f"--{name}={value}" for name, value in place.items()])
    except (OSError, WandbSubmitError) as error:
        yield Finding(
            topic=_TOPIC, words=f"no probe: {error}", verdict=Verdict.FAILED, remedy="correct that, and probe again"
        )


def _looked(mark: Path, url: str, where: Sequence[str]) -> Iterator[Finding]:
    look = ["srun", "--ntasks=1", "--time=5", f"--immediate={_QUEUE_S}", "--job-name=wandb-submit-doctor", *where]
    # Neither a job around us nor the current folder's modules are to decide.
    environment = cli.sbatch_environment(os.environ, "")
    below = wandb_dir.folder()
    answer = process.run(
        [*look, sys.executable, "-I", "-c", _LOOK, str(mark), url, str(below)], timeout_s=_TIMEOUT_S, env=environment
    )
    lines = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    if answer.returncode != 0 or not lines:
        yield Finding(
            topic=_TOPIC,
            words=f"the probe's job did not run: {slurms_words(answer.stderr)}",
            verdict=Verdict.FAILED,
            remedy=f"nodes must be able to run {sys.executable}: install wandb-submit where they see it; if Slurm "
            "wants them, name --partition, --account and --qos; if no node is free, probe later",
        )
        return
    seen = json.loads(lines[-1])
    host = seen["host"]
    yield Finding(topic=_TOPIC, words=f"{host} runs the Python of wandb-submit")
    yield _either(
        seen["folder"],
        f"{host} sees {mark.parent}",
        f"{host} does not see {mark.parent}",
        remedy="submit from a file system that the nodes share, or name a folder there in WANDB_SUBMIT_DIR",
    )
    yield _either(
        seen["can_write"],
        f"{host} can write wandb's files below {below}",
        f"{host} cannot write wandb's files and runs' configurations below {below}",
        remedy=wandb_dir.REMEDY,
    )
    yield _either(
        not seen["why"],
        f"{host} reaches {url}",
        f"{host} does not reach {url}: {seen['why']}",
        verdict=Verdict.WARNING,
        remedy="set the site's proxy in HTTPS_PROXY, or run the sweep with --offline and bring it to W&B with "
        "`wandb-submit sync` afterwards",
    )


def _either(well: bool, words: str, otherwise: str, *, verdict: Verdict = Verdict.FAILED, remedy: str) -> Finding:
    """What was found where all is well, or else what was found, how bad that is and what to do."""
    if well:
        return Finding(topic=_TOPIC, words=words)
    return Finding(topic=_TOPIC, words=otherwise, verdict=verdict, remedy=remedy)
