from __future__ import annotations

import json
from pathlib import Path

import pytest

from wandb_submit.errors import NotLoggedInError, UnavailableError
from wandb_submit.spec import Endpoint
from wandb_submit.wandb_api.credentials import Login, deployment, find_login, trial_environment

CLOUD = Endpoint(base_url="https://api.wandb.ai")
FORGE = Endpoint(base_url="https://api.forge.coreweave.com")
KEY = "s3cret" * 7
OTHER = "0ther" * 8


def netrc(path: Path, *machines: tuple[str, str]) -> Path:
    path.write_text("".join(f"machine {host}\n  login user\n  password {key}\n" for host, key in machines))
    path.chmod(0o600)
    return path


def test_the_key_comes_from_the_environment_first(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    netrc(home / ".netrc", ("api.wandb.ai", OTHER))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert find_login(CLOUD) == Login("https://api.wandb.ai", KEY)


def test_the_address_loses_its_trailing_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert find_login(Endpoint(base_url="https://wandb.example/")).base_url == "https://wandb.example"


@pytest.mark.parametrize("name", [".netrc", "_netrc"])
def test_the_key_comes_from_netrc_in_the_home_folder(name: str, home: Path) -> None:
    netrc(home / name, ("github.com", OTHER), ("api.wandb.ai", KEY))
    assert find_login(CLOUD).api_key == KEY


def test_netrc_can_be_named_and_then_the_home_folder_does_not_count(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    netrc(home / ".netrc", ("api.wandb.ai", OTHER))
    monkeypatch.setenv("NETRC", str(netrc(tmp_path / "keys", ("api.wandb.ai", KEY))))
    assert find_login(CLOUD).api_key == KEY
    monkeypatch.setenv("NETRC", str(tmp_path / "missing"))
    with pytest.raises(NotLoggedInError):
        find_login(CLOUD)


def test_the_named_netrc_may_start_at_the_home_folder(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    netrc(home / "keys", ("api.wandb.ai", KEY))
    monkeypatch.setenv("NETRC", "~/keys")
    assert find_login(CLOUD).api_key == KEY


def test_a_server_on_a_port_is_a_machine_with_that_port(home: Path) -> None:
    netrc(home / ".netrc", ("wandb.example:8080", KEY), ("wandb.example", OTHER))
    assert find_login(Endpoint(base_url="http://wandb.example:8080")).api_key == KEY


def test_a_key_of_the_older_address_is_good_for_the_newer(home: Path) -> None:
    netrc(home / ".netrc", ("api.wandb.ai", KEY))
    assert find_login(FORGE).api_key == KEY


def test_the_newer_addresss_own_key_wins(home: Path) -> None:
    netrc(home / ".netrc", ("api.wandb.ai", OTHER), ("api.forge.coreweave.com", KEY))
    assert find_login(FORGE).api_key == KEY


def test_a_key_of_another_server_is_never_taken(home: Path) -> None:
    netrc(home / ".netrc", ("wandb.example", OTHER))
    with pytest.raises(NotLoggedInError):
        find_login(CLOUD)


def test_without_a_key_the_error_names_the_server_and_three_ways_out() -> None:
    with pytest.raises(NotLoggedInError, match=r"api\.wandb\.ai.*wandb login.*WANDB_API_KEY.*--offline"):
        find_login(CLOUD)


def test_a_netrc_that_cannot_be_read_is_named_and_its_key_is_not(home: Path) -> None:
    (home / ".netrc").write_text(f"machine api.wandb.ai\n  lgin user\n  password {KEY}\n")
    with pytest.raises(NotLoggedInError, match=r"\.netrc") as caught:
        find_login(CLOUD)
    assert KEY not in str(caught.value)


def test_a_key_is_never_shown() -> None:
    login = Login("https://api.wandb.ai", KEY)
    assert KEY not in f"{login!r} {login}"


def test_the_offline_server_says_its_address_and_key_in_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", OTHER)
    (tmp_path / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:9/", "api_key": KEY}))
    found = find_login(Endpoint(base_url="http://127.0.0.1:1", server_dir=tmp_path))
    assert found == Login("http://127.0.0.1:9", KEY)


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"url": "http://127.0.0.1:9"}'])
def test_an_offline_server_that_is_not_there_may_come_back(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "server.json").write_text(content)
    with pytest.raises(UnavailableError, match="server start") as caught:
        find_login(Endpoint(base_url="http://127.0.0.1:1", server_dir=tmp_path))
    assert caught.value.transient


@pytest.mark.parametrize(
    ("page", "api"),
    [
        ("wandb.ai", "api.wandb.ai"),
        ("www.wandb.ai", "api.wandb.ai"),
        ("WANDB.ai", "api.wandb.ai"),
        ("forge.coreweave.com", "api.wandb.ai"),
        ("wandb.ai", "api.forge.coreweave.com"),
        ("wandb.example:8080", "wandb.example:8080"),
        ("acme.wandb.io", "api.acme.wandb.io"),
    ],
)
def test_pages_and_api_of_one_deployment_are_one(page: str, api: str) -> None:
    assert deployment(page) == deployment(api)


def test_another_deployment_is_another() -> None:
    assert deployment("acme.wandb.io") != deployment("api.wandb.ai")


def test_trials_of_the_cloud_are_told_the_address_alone() -> None:
    assert trial_environment(Login("https://api.wandb.ai", KEY), offline=False) == {
        "WANDB_BASE_URL": "https://api.wandb.ai"
    }


def test_trials_of_the_offline_server_are_told_everything_and_kept_from_proxies() -> None:
    assert trial_environment(Login("http://127.0.0.1:9", KEY), offline=True) == {
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_API_KEY": KEY,
        "WANDB_MODE": "online",
        "no_proxy": "127.0.0.1",
        "NO_PROXY": "127.0.0.1",
    }


def test_hosts_that_the_user_keeps_from_proxies_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet,127.0.0.1,,other")
    monkeypatch.setenv("no_proxy", "lower")
    variables = trial_environment(Login("http://127.0.0.1:9", KEY), offline=True)
    assert variables["NO_PROXY"] == "intranet,other,127.0.0.1"
    assert variables["no_proxy"] == "lower,127.0.0.1"


def test_a_trial_of_the_offline_server_reaches_no_proxy_at_all_where_the_user_wants_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from urllib.request import proxy_bypass_environment

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    for name, value in trial_environment(Login("http://127.0.0.1:9", KEY), offline=True).items():
        monkeypatch.setenv(name, value)
    assert proxy_bypass_environment("127.0.0.1")
    assert proxy_bypass_environment("data.example")
