"""Proxies mean to agents what they mean to wandb-core, whose answers these are (wandb 0.26 and 0.31, measured)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from wandb_submit.wandb_api.proxies import Proxies

A, B, C = "http://a:1", "http://b:2", "http://c:3"
HTTP, HTTPS = "http://wandb.example", "https://wandb.example"


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("http", "https", "all", "no"):
        for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY", f"WANDB_{kind.upper()}_PROXY"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("WANDB_CONFIG_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def settings(path: str, **proxies: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("[default]\n" + "".join(f"{name} = {proxy}\n" for name, proxy in proxies.items()))


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"http_proxy": A}, HTTP, A),
        ({"HTTP_PROXY": A}, HTTP, A),
        ({"HTTP_PROXY": A, "http_proxy": B}, HTTP, A),
        ({"HTTPS_PROXY": A, "HTTP_PROXY": B}, HTTPS, A),
        ({"https_proxy": A, "http_proxy": B}, HTTPS, A),
        ({"HTTP_PROXY": A}, HTTPS, None),
        ({"ALL_PROXY": A}, HTTPS, None),
        ({"all_proxy": A}, HTTP, None),
        ({"WANDB_HTTPS_PROXY": A, "HTTPS_PROXY": B}, HTTPS, A),
        ({"WANDB_HTTP_PROXY": A}, HTTPS, None),
        ({"WANDB_HTTP_PROXY": A, "NO_PROXY": "*"}, HTTP, A),
        ({"WANDB_HTTP_PROXY": A}, "http://127.0.0.1:8080", A),
        ({"HTTP_PROXY": A}, "http://127.0.0.1:8080", None),
        ({"HTTP_PROXY": A}, "http://[::1]:8080", None),
        ({"HTTP_PROXY": A}, "http://localhost:8080", None),
        ({"WANDB_HTTP_PROXY": "", "HTTP_PROXY": A}, HTTP, A),
        ({}, HTTP, None),
    ],
)
def test_the_variables_lead_to(
    variables: Mapping[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Proxies.read().leading_to(url) == proxy


@pytest.mark.parametrize(
    ("exempt", "url", "direct"),
    [
        ("wandb.example", HTTPS, True),
        (" other , Wandb.Example ", HTTPS, True),
        ("example", HTTPS, True),
        (".example", HTTPS, True),
        ("*.example", HTTPS, True),
        (".wandb.example", HTTPS, False),
        ("*.wandb.example", HTTPS, False),
        ("db.example", HTTPS, False),
        ("wandb.example:443", HTTPS, True),
        ("wandb.example:8080", HTTPS, False),
        ("wandb.example:8080", "https://wandb.example:8080", True),
        ("other,*", HTTPS, True),
        (",,", HTTPS, False),
        (":443", HTTPS, False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3", "https://10.1.2.3:8080", True),
        ("10.1.2.3:80", "https://10.1.2.3:8080", False),
        ("fd00::1", "https://[fd00::1]:8080", True),
        ("[fd00::1]:8080", "https://[fd00::1]:8080", True),
        ("fd00::/8", "https://[fd00::1]", True),
        ("10.0.0.0/99", "https://10.1.2.3", False),
    ],
)
def test_hosts_are_exempt_by_gos_rules(exempt: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", A)
    monkeypatch.setenv("no_proxy", exempt)
    assert (Proxies.read().leading_to(url) is None) is direct


def test_a_settings_file_counts_more_than_the_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", C)
    monkeypatch.setenv("NO_PROXY", "*")
    home = str(Path("~/.config/wandb/settings").expanduser())
    settings(home, https_proxy=A, base_url=HTTPS)
    assert Proxies.read().leading_to(HTTPS) == A
    settings("wandb/settings", https_proxy=B)
    assert Proxies.read().leading_to(HTTPS) == B
    settings(".wandb/settings", http_proxy=B)  # where there is a folder of that name, wandb uses no other
    assert Proxies.read().leading_to(HTTPS) == A
    monkeypatch.setenv("WANDB_CONFIG_DIR", "~/elsewhere")
    assert Proxies.read().leading_to(HTTPS) is None
    settings(str(Path("~/elsewhere/settings").expanduser()), https_proxy=B)
    assert Proxies.read().leading_to(HTTPS) == B
    monkeypatch.setenv("WANDB_HTTPS_PROXY", C)
    assert Proxies.read().leading_to(HTTPS) == C


@pytest.mark.parametrize("content", [b"", b"no section = 1", b"[default]\nhttps_proxy = %4", b"\xff\xfe", b"[other]\n"])
def test_a_settings_file_that_says_nothing(content: bytes) -> None:
    Path("wandb").mkdir()
    Path("wandb/settings").write_bytes(content)
    assert Proxies.read().leading_to(HTTPS) is None


def test_a_proxy_that_wandb_does_not_read_is_told_where_none_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:secret@a:1")
    assert Proxies.read().trouble(HTTPS) == (
        "ALL_PROXY is set, but wandb and its runs do not read it: set HTTPS_PROXY to the same proxy"
    )
    assert "set HTTP_PROXY" in Proxies.read().trouble(HTTP)
    assert Proxies.read().trouble("http://127.0.0.1:1") == ""
    monkeypatch.setenv("NO_PROXY", "wandb.example")
    assert Proxies.read().trouble(HTTPS) == ""
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("https_proxy", A)
    assert Proxies.read().trouble(HTTPS) == ""


def test_a_proxy_of_wandbs_own_can_be_told_to_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", B)
    assert Proxies.read().variables(HTTPS) == {}
    monkeypatch.setenv("WANDB_HTTPS_PROXY", A)
    assert Proxies.read().variables(HTTPS) == {"https_proxy": A, "HTTPS_PROXY": A}
    assert Proxies.read().variables(HTTP) == {}
