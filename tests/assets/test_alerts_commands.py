"""`k2 alerts test` and `k2 alerts list`, as a shell sees them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from k2_assets.alerts.alert_conditions import Condition, Severity
from k2_assets.alerts.alert_store import Look, opened
from k2_assets.alerts.alerts_commands import alerts
from k2_assets.alerts.messages import Message
from k2_assets.alerts.transitions import Known
from tests.assets.webhooks import BROKEN, SECRET, Webhook, a_webhook


@pytest.fixture(name="hook")
def a_hook() -> Iterator[Webhook]:
    with a_webhook() as hook:
        yield hook


def run(home: Path, monkeypatch: pytest.MonkeyPatch, command: str, *urls: str) -> Result:
    monkeypatch.setenv("K2_HOME", str(home))
    monkeypatch.setenv("K2_ALERTS__URLS", json.dumps(urls))
    return CliRunner().invoke(alerts, [command])


def test_test_ends_with_2_and_says_how_to_set_a_url_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(tmp_path, monkeypatch, "test")
    assert done.exit_code == 2
    assert "export K2_ALERTS__URLS='[\"slack://" in done.stderr


def test_test_ends_with_0_when_every_url_took_the_message(
    hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(tmp_path, monkeypatch, "test", hook.url)
    assert (done.exit_code, done.output) == (0, "JSON at 127.0.0.1: delivered\n")
    assert [each["title"] for each in hook.taken] == ["K2 test"]
    assert str(tmp_path) in hook.taken[0]["message"]


def test_test_ends_with_1_when_one_url_did_not_and_shows_no_secret(
    hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_webhook() as broken:
        broken.answers = BROKEN
        done = run(tmp_path, monkeypatch, "test", broken.url, hook.url, f"nonsense://{SECRET}")
    assert done.exit_code == 1
    first, second, third = done.output.splitlines()
    assert first.startswith("JSON at 127.0.0.1: not delivered: ")
    assert "error=500" in first
    assert second == "JSON at 127.0.0.1: delivered"
    assert third.startswith("a URL that apprise does not know: not delivered")
    assert SECRET not in done.output + done.stderr
    assert not (tmp_path / "run").exists()  # a test leaves nothing behind


def test_list_shows_what_is_bad_since_when_and_what_became_of_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nothing has looked yet" in run(tmp_path, monkeypatch, "list").output
    check = Condition("check", "gold_crypto_trades", Severity.ERROR, "2 unfit.", name="fit", partition="2024-08-09")
    feed = Condition("feed", "kraken", Severity.WARNING, "its clock is behind", name="skew")
    drain = Condition("kept_run", "drain", Severity.ERROR, "It hangs.")
    known = {
        check.key: Known(check, bad=True, bad_since_s=1000, reported=Severity.ERROR),
        feed.key: Known(feed, bad=True, bad_since_s=900),
        drain.key: Known(drain, bad=True, bad_since_s=1100, reported=Severity.ERROR),
        "over": Known(check, bad=False, bad_since_s=1),
    }
    with opened(tmp_path) as store:
        store.set_targets(["one"])
        store.commit(known, 0, [Message("t", "b", "failure", (drain.key,))], Look(1200, ""))
    done = run(tmp_path, monkeypatch, "list")
    assert done.output.splitlines() == [
        "conditions that are bad, as seen at 1970-01-01 00:20:00 UTC: 3",
        "ERROR: check fit of gold_crypto_trades 2024-08-09, since 1970-01-01 00:16:40 UTC, message delivered",
        "    2 unfit.",
        "ERROR: drain, since 1970-01-01 00:18:20 UTC, message waits",
        "    It hangs.",
        "WARNING: feed of kraken: skew, since 1970-01-01 00:15:00 UTC, message not sent",
        "    its clock is behind",
    ]
