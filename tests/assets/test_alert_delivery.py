"""Messages reach a webhook that is really there, once; lost ones are sent again; no secret of a URL is shown."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apprise
import pytest
import requests
from pydantic import SecretStr

from k2_assets.alerts import delivery
from k2_assets.alerts.alert_store import AlertStore, Look, opened
from k2_assets.alerts.delivery import send, send_waiting, urls_of
from k2_assets.alerts.messages import Message
from k2_core import clock
from k2_core.errors import SettingsError
from k2_core.settings import Alerts, Settings, load_settings
from tests.assets.webhooks import BROKEN, DROPS, OK, SECRET, Webhook, a_webhook

MESSAGE = Message("K2 error: check c of a", "ERROR: check c of a\nseen\nrunbook: x#y", "failure", ("check|a|c|",))


@pytest.fixture(name="hook")
def a_hook() -> Iterator[Webhook]:
    with a_webhook() as hook:
        yield hook


@pytest.fixture(name="log")
def the_log_of_a_process() -> Iterator[io.StringIO]:
    """What reaches the root's handlers at K2's own level; pytest's caplog attaches to other loggers too."""
    root, text = logging.getLogger(), io.StringIO()
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture(name="store")
def an_open_store(tmp_path: Path) -> Iterator[AlertStore]:
    with opened(tmp_path) as store:
        yield store


def queue(store: AlertStore, urls: dict[str, str], *titles: str) -> None:
    store.set_targets(list(urls))
    store.commit({}, 0, [Message(title, "body", "info") for title in titles], Look(clock.now_s(), ""))


def go_on_by(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = clock.now_s()
    monkeypatch.setattr(clock, "now_s", lambda: now_s + seconds)


def test_webhook_gets_the_json_that_apprise_posts(hook: Webhook) -> None:
    assert send(hook.url, MESSAGE) == (f"JSON at {hook.host}", "")
    (posted,) = hook.taken
    expected = {"title": MESSAGE.title, "message": MESSAGE.body, "type": "failure", "version": "1.0"}
    assert {name: posted[name] for name in expected} == expected


@pytest.mark.parametrize(("answers", "says"), [(BROKEN, "error=500"), (403, "error=403"), (DROPS, "onnection error")])
def test_failure_says_why_and_shows_no_secret(
    hook: Webhook, answers: int | None, says: str, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.answers = answers
    answer = send(hook.url, MESSAGE)
    assert answer.label == f"JSON at {hook.host}"
    assert says in answer.error
    shown = capfd.readouterr()
    assert SECRET.lower() not in f"{answer}{log.getvalue()}{shown.out}{shown.err}".lower()


@pytest.mark.parametrize(
    "url",
    [
        f"nonsense://{SECRET}/x",
        SECRET,
        f"pagerduty://{SECRET}",
        f"slack://{SECRET}",
        f"json://127.0.0.1:notaport/{SECRET}",
        f"mailto://{SECRET}",
    ],
)
def test_url_that_apprise_does_not_know_is_a_failure_that_shows_nothing_of_it(
    url: str, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = send(url, MESSAGE)
    assert answer.error
    shown = capfd.readouterr()
    assert SECRET.lower() not in f"{answer}{log.getvalue()}{shown.out}{shown.err}".lower()


def test_error_of_apprise_itself_shows_nothing_of_the_url(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(url: str, **_: object) -> Any:
        msg = f"cannot use {url}"
        raise RuntimeError(msg)

    monkeypatch.setattr(apprise.Apprise, "instantiate", raises)
    assert send(hook.url, MESSAGE) == ("a service", "RuntimeError in apprise")


def test_token_that_a_url_has_in_place_of_its_host_is_not_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ("T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ")

    def refuses(url: str, **_: object) -> Any:
        msg = f"{url} is away"
        raise requests.ConnectionError(msg)

    monkeypatch.setattr(requests, "post", refuses)
    answer = send(f"slack://{'/'.join(tokens)}/#alerts", MESSAGE)
    assert answer.label == "Slack"
    assert answer.error
    assert not any(token in str(answer) for token in tokens)


@pytest.mark.parametrize("answers", [BROKEN, DROPS])
def test_lost_post_is_sent_again_after_a_pause_in_order_and_once(
    hook: Webhook, store: AlertStore, monkeypatch: pytest.MonkeyPatch, answers: int | None
) -> None:
    urls = {"one": hook.url}
    queue(store, urls, "first", "second")
    hook.answers = answers
    send_waiting(store, urls)
    assert (hook.refused, hook.taken) == (1, [])  # the second waits behind the first
    (target,) = store.targets()
    assert target.error
    assert (target.failures, target.waiting) == (1, 2)
    hook.answers = OK
    send_waiting(store, urls)
    assert hook.taken == []
    go_on_by(11, monkeypatch)
    send_waiting(store, urls)
    send_waiting(store, urls)
    assert hook.titles == ["first", "second"]
    assert store.targets()[0].error is None


def test_target_that_fails_keeps_no_other_from_its_messages(hook: Webhook, store: AlertStore) -> None:
    with a_webhook() as broken:
        broken.answers = BROKEN
        urls = {"a": broken.url, "b": hook.url}
        queue(store, urls, "first", "second")
        send_waiting(store, urls)
    assert hook.titles == ["first", "second"]
    assert [each.waiting for each in store.targets()] == [2, 0]


def test_kill_between_the_post_and_its_record_sends_the_message_twice_and_loses_none(
    hook: Webhook, store: AlertStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"one": hook.url}
    queue(store, urls, "first", "second")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(AlertStore, "delivered", dies)
        with pytest.raises(KeyboardInterrupt):
            send_waiting(store, urls)
    with opened(tmp_path) as later:
        send_waiting(later, urls)
    assert hook.titles == ["first", "first", "second"]


def test_round_ends_before_dagster_would_end_it(
    hook: Webhook, store: AlertStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"one": hook.url}
    queue(store, urls, "first", "second", "third")
    began = clock.monotonic()
    hook.on_post = lambda: monkeypatch.setattr(clock, "monotonic", lambda: began + delivery._ROUND_S + 1)
    send_waiting(store, urls)
    assert hook.titles == ["first"]
    assert store.targets()[0].waiting == 2


def test_urls_come_from_settings_and_file_each_once(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("# the team's\njson://two/\n\n  json://one/  \n")
    alerts = Alerts(urls=(SecretStr("json://one/"),), urls_file=file)
    assert list(urls_of(alerts).values()) == ["json://one/", "json://two/"]
    file.unlink()
    with pytest.raises(SettingsError, match="K2_ALERTS__URLS_FILE cannot be used"):
        urls_of(alerts)


def test_settings_never_show_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(alerts=Alerts(urls=(SecretStr(f"json://h/{SECRET}"),)))
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"
    for wrong in (f"json://h/{SECRET}", f'{{"a": "{SECRET}"}}', f'["json://h/{SECRET}"', f'[["{SECRET}"]]'):
        monkeypatch.setenv("K2_ALERTS__URLS", wrong)
        with pytest.raises(SettingsError) as refused:
            load_settings()
        assert SECRET not in str(refused.value)
        assert "K2_ALERTS__URLS" in str(refused.value)
