"""The time limit that a site gives a job's tasks, from recorded answers of sinfo and sacctmgr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.conftest import Program

from wandb_submit.errors import ConfigError
from wandb_submit.executors.slurm import time as slurm_time
from wandb_submit.options.values import limit_min
from wandb_submit.spec import ArraySpec, SubmissionSpec

LINES = {
    "main": "main|main*|2-00:00:00|1:00:00|64|257000|(null)|(null)",
    "gpu": "gpu|gpu|1-00:00:00|n/a|64|515000|gpu:4|(null)",
    "debug": "debug|debug|30:00|1:00|64|257000|(null)|(null)",
    "tiny": "tiny|tiny|2:00|n/a|64|257000|(null)|(null)",
    "long": "long|long|infinite|infinite|64|257000|(null)|(null)",
    "half": "half|half|5-00:00:00|4:00|64|257000|(null)|(null)",
}


def spec(time: str | None = None, partition: str | None = None, **changes: Any) -> SubmissionSpec:
    sbatch = {**changes.pop("sbatch", {}), **({"partition": partition} if partition else {})}
    time_min = None if time is None else limit_min("--time", time)
    base = {"executor": "slurm", "array": ArraySpec(count=1), "workdir": Path("/w")}
    return SubmissionSpec(**base, time=time, time_min=time_min, sbatch=sbatch, **changes)


@pytest.fixture
def site(program: Program) -> Program:
    """A site whose sinfo knows these partitions, and whose QOS `walled` has a MaxWall."""
    rows = "\n".join(f'want "{name}" && echo "{line}"' for name, line in LINES.items())
    program(
        "sinfo",
        'asked=all; for one; do case "$one" in --partition=*) asked=",${one#*=},";; esac; done\n'
        'want() { case "$asked" in all|*",$1,"*) true;; *) false;; esac; }\n' + rows + "\ntrue",
    )
    program("sacctmgr", 'case "$*" in *"qos name=walled "*maxwall*) echo 00:07:00;; *) echo;; esac')
    return program


@pytest.mark.parametrize(
    ("partition", "says"),
    [
        (None, ["--time was not given: a task's limit is 1:00:00 (DefaultTime of partition main)"]),
        ("gpu", ["--time was not given: a task's limit is 1-00:00:00 (MaxTime of partition gpu)"]),
        ("long", []),
        (
            "gpu,half",
            [
                "--time was not given: a task's limit is 1-00:00:00 (MaxTime of partition gpu) or 4:00 (DefaultTime of"
                " partition half)"
            ],
        ),
        ("gpu,long", ["--time was not given: a task's limit is 1-00:00:00 (MaxTime of partition gpu)"]),
    ],
)
@pytest.mark.usefixtures("site")
def test_a_limit_that_nobody_typed_is_named(partition: str | None, says: list[str]) -> None:
    assert slurm_time.notes(spec(partition=partition)) == says


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"partition": "debug"},
            r"1:00 \(DefaultTime of partition debug\): that leaves 0 s .* at least 3 minutes \(allowed: debug 30:00\)",
        ),
        ({"partition": "tiny"}, r"2:00 \(MaxTime of partition tiny\): that leaves 30 s"),
        (
            {"partition": "gpu,debug"},
            r"1:00 \(DefaultTime of partition debug\): .*allowed: gpu 1-00:00:00, debug 30:00",
        ),
        ({"partition": "half", "grace_s": 200.0}, r"4:00 .* that leaves 10 s .* \(--grace 200\).* at least 5 minutes"),
        ({"min_run_s": 7200.0}, r"1:00:00 .* a run is said to take 7200 s. Ask with --time for at least 122 minutes"),
        ({"time": "9", "sbatch": {"time-min": "2"}}, r"^--sbatch time-min=2: that leaves 30 s"),
    ],
)
@pytest.mark.usefixtures("site")
def test_a_default_that_leaves_no_time_for_a_run_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        slurm_time.notes(spec(**options))


@pytest.mark.parametrize(
    ("time", "partition", "says"),
    [
        ("2-00:00:00", None, None),
        ("2-00:01:00", None, "main (2-00:00:00)"),
        ("31", "debug", "debug (30:00)"),
        ("30", "debug", None),
        ("31", "debug,long", None),
        ("UNLIMITED", "long", None),
        ("UNLIMITED", "gpu", "gpu (1-00:00:00)"),
    ],
)
@pytest.mark.usefixtures("site")
def test_a_time_limit_is_compared_with_the_partitions(time: str, partition: str | None, says: str | None) -> None:
    found = slurm_time.notes(spec(time, partition))
    over = f"--time is over the limit of partition {says}: where sbatch takes it, tasks may wait for ever"
    assert found == ([] if says is None else [over])


@pytest.mark.usefixtures("site")
def test_a_qos_that_allows_less_is_told() -> None:
    assert slurm_time.notes(spec("5", sbatch={"qos": "walled"})) == []
    for time in ("8", None):
        assert "over the MaxWall of QOS walled (00:07:00)" in slurm_time.notes(spec(time, sbatch={"qos": "walled"}))[-1]
    assert slurm_time.notes(spec("8", sbatch={"qos": "normal"})) == []


@pytest.mark.usefixtures("site")
def test_a_persons_own_defaults_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "debug")
    with pytest.raises(ConfigError, match="DefaultTime of partition debug"):
        slurm_time.notes(spec())
    monkeypatch.setenv("SBATCH_TIMELIMIT", "20")
    assert slurm_time.notes(spec()) == ["--time was not given: a task's limit is 20 (SBATCH_TIMELIMIT)"]
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    with pytest.raises(ConfigError, match=r"1 \(SBATCH_TIMELIMIT\)"):
        slurm_time.notes(spec())
    monkeypatch.setenv("SBATCH_QOS", "walled")
    assert "MaxWall of QOS walled" in slurm_time.notes(spec("8"))[-1]


@pytest.mark.parametrize("body", ["exit 1", "echo nonsense"])
def test_a_site_that_does_not_tell_leaves_it_open(body: str, program: Program) -> None:
    program("sinfo", body)
    program("sacctmgr", body)
    for time in (None, "99999"):
        assert slurm_time.notes(spec(time, sbatch={"qos": "walled"})) == []
