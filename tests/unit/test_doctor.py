"""What doctor reads from others' answers, and what it knows of the client's versions."""

from __future__ import annotations

import pytest

from wandb_submit.doctor import client_versions, quota
from wandb_submit.doctor.quota import Quota

# quota 4.06 with -w -p; a user who is over one limit, and has another file system without any.
QUOTA = """\
Disk quotas for user tester (uid 1001):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
nas:/export/home 20971520* 20971520 26214400 1795577000  150000       0  200000       0
      /dev/sda1     140       0       0       0       4       0       0       0
"""
# lfs 2.15 with -q: no heading.
LUSTRE = "  /lustre/home  1048576  0 2097152       -   1000   0       0       -\n"


def test_a_quota_is_read_of_the_file_system_that_is_meant() -> None:
    found = quota.parse(QUOTA, "nas:/export/home")
    assert found == Quota(used_gb=20.0, most_gb=20.0, files=150000, most_files=200000)
    assert (found.free_gb, found.free_files) == (0.0, 50000)
    assert found.words == "20.0 of 20.0 GB, 150000 of 200000 files"


def test_lustre_tells_of_the_one_it_was_asked_about() -> None:
    found = quota.parse(LUSTRE, None)
    assert found == Quota(used_gb=1.0, most_gb=2.0, files=1000, most_files=None)
    assert (found.free_gb, found.free_files) == (1.0, None)
    assert found.words == "1.0 of 2.0 GB"


@pytest.mark.parametrize("source", ["/dev/sda1", "/dev/sdb1"])
def test_where_nothing_is_limited_there_is_no_quota(source: str) -> None:
    assert quota.parse(QUOTA, source) is None


def traps(version: str) -> str:
    return "; ".join(finding.words for finding in client_versions.findings(version))


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("0.16.6", "numpy 2"),
        ("0.22.2", "86 characters"),
        ("0.24.0", "may lose runs' data"),
        ("0.25.1", "offline server is tested with"),
    ],
)
def test_a_version_that_goes_wrong_is_told_with_a_remedy(version: str, says: str) -> None:
    assert says in traps(version)
    assert all(finding.remedy for finding in client_versions.findings(version))


@pytest.mark.parametrize("version", ["0.26.0", "0.31.0", "0.31.1.dev1", "1.0"])
def test_a_version_without_traps_is_passed_over(version: str) -> None:
    assert traps(version) == ""


def test_each_trap_ends_where_it_was_mended() -> None:
    assert "86 characters" not in traps("0.22.3")
    assert "lose" not in traps("0.24.1")
    assert "numpy" not in traps("0.17.2")
