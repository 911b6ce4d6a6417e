"""What a site has to choose from, from recorded answers of sinfo and sacctmgr."""

from __future__ import annotations

import pytest
from unit.conftest import Program

from wandb_submit.executors.slurm import site as slurm_site
from wandb_submit.executors.slurm.refusals import Topic

# A site with typed GPUs, nodes that differ within a partition, and features.
SINFO = """\
cpu|cpu*|2-00:00:00|1:00:00|64|257000|(null)|(null)
cpu|cpu*|2-00:00:00|1:00:00|128+|515000+|(null)|avx512,ib
gpu|gpu|1-00:00:00|n/a|64|515000|gpu:a100:4(S:0-1)|a100,ib
gpu|gpu|1-00:00:00|n/a|96|1031000|gpu:h100:8(S:0-3),shard:h100:32(S:0-3)|h100
debug|debug|30:00|1:00|64|257000|(null)|(null)
long|long|infinite|infinite|64|257000|(null)|(null)
warned|too few fields
"""


@pytest.fixture
def site(program: Program) -> Program:
    program("sinfo", f"cat <<'END'\n{SINFO}END")
    return program


def test_a_node_is_described_by_what_a_job_asks_for() -> None:
    shapes = [group.shape for group in slurm_site.parse_sinfo(SINFO)]
    assert shapes[:4] == [
        "64 cores, 250 GB",
        "128+ cores, 502+ GB",
        "64 cores, 502 GB, gpu:a100:4",
        "96 cores, 1006 GB, gpu:h100:8(S:0-3),shard:h100:32(S:0-3)",
    ]
    assert len(shapes) == 6


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (Topic.PARTITION, "here: cpu (default), gpu, debug, long"),
        (Topic.FEATURE, "here: avx512, ib, a100, h100"),
        (Topic.TIME, "limits: cpu 2-00:00:00, gpu 1-00:00:00, debug 30:00, long infinite"),
    ],
)
def test_what_there_is_is_listed_once(topic: Topic, words: str, site: Program) -> None:
    assert slurm_site.choices(topic) == words


def test_only_the_named_partitions_nodes_are_asked_for(program: Program) -> None:
    program(
        "sinfo",
        'case "$*" in *--states=*) exit ;; esac; for last; do :; done; echo "gpu|gpu|1:00|n/a|8|1024|$last|(null)"',
    )
    assert slurm_site.choices(Topic.NODES, "gpu,cpu") == "nodes of gpu,cpu: 8 cores, 1 GB, --partition=gpu,cpu"
    assert slurm_site.choices(Topic.NODES).startswith("nodes here: 8 cores, 1 GB, --format=")


@pytest.mark.parametrize(("known", "away", "all_away"), [("2\n1", "2\n1", True), ("3", "2", False), ("", "", False)])
def test_whether_all_nodes_are_away_is_counted(known: str, away: str, all_away: bool, program: Program) -> None:
    program("sinfo", f'case "$*" in *--states=*) echo "{away}" ;; *) echo "{known}" ;; esac')
    assert slurm_site.all_away("gpu", "n1") is all_away


def test_nodes_that_are_down_are_named_where_none_fits(program: Program) -> None:
    program(
        "sinfo", 'case "$*" in *--states=*) echo gpu2; echo gpu2 ;; *) echo "gpu|gpu|1:00|n/a|8|1024|gpu:1|" ;; esac'
    )
    assert slurm_site.choices(Topic.NODES) == "nodes here: 8 cores, 1 GB, gpu:1; down or drained now: gpu2"


def test_accounts_and_qos_are_the_users_own(program: Program) -> None:
    program(
        "sacctmgr",
        'case "$*" in *"user="*format=account) printf "lab\\nlab\\nother\\n" ;; '
        '*"user="*format=qos) printf "normal,long\\nnormal\\n\\n" ;; esac',
    )
    assert slurm_site.choices(Topic.ACCOUNT) == "yours: lab, other"
    assert slurm_site.choices(Topic.QOS) == "yours: normal, long"


def test_ones_own_limits_are_told_by_their_names(program: Program) -> None:
    program(
        "sacctmgr",
        """case "$*" in
        *"associations user="*format=account,partition,*)
            echo "lab|gpu|5|10|gres/gpu=4|1-00:00:00|||"; echo "lab|||||||||" ;;
        *"associations user="*format=qos) printf "long,normal\\nnormal\\n" ;;
        *"qos name=long,normal"*) echo "long|2|10||gres/gpu=8||||"; echo "normal||||||||" ;;
        esac""",
    )
    assert slurm_site.own_limits() == [
        "account lab gpu: MaxJobs 5, MaxSubmitJobs 10, MaxTRESPerJob gres/gpu=4, MaxWall 1-00:00:00",
        "QOS long: MaxJobsPerUser 2, MaxSubmitJobsPerUser 10, MaxTRESPerUser gres/gpu=8",
    ]


def test_of_very_many_the_first_are_shown(program: Program) -> None:
    program("sacctmgr", "seq -f account%g 100")
    assert slurm_site.choices(Topic.ACCOUNT).endswith("account12, and 88 more")


@pytest.mark.parametrize("topic", Topic)
@pytest.mark.parametrize(
    "body", ["exit 1", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1"]
)
def test_a_site_that_does_not_tell_leaves_it_open(topic: Topic, body: str, program: Program) -> None:
    program("sinfo", body)
    program("sacctmgr", body)
    assert slurm_site.choices(topic) == ""


def test_a_site_that_does_not_answer_is_not_waited_for(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_site, "_TIMEOUT_S", 0.2)
    program("sinfo", "exec sleep 60")
    assert slurm_site.choices(Topic.PARTITION) == ""
