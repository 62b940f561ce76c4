"""The line of `k2 status` about alerts: what each state of their store means."""

from pathlib import Path

import pytest

from k2_assets.alerts.alert_store import STORE, Look, opened
from k2_assets.alerts.messages import Message
from k2_core import clock
from k2_core.settings import Settings
from k2_stack.alert_status import AlertStatus, alert_status, warnings

LONG_AGO_S = 3600.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def looked(settings: Settings, ago_s: float = 0.0, trouble: str = "", targets: tuple[str, ...] = ("one",)) -> None:
    with opened(settings.home) as store:
        store.set_targets(targets)
        store.commit({}, 0, [Message("title", "body", "info")], Look(clock.now_s() - ago_s, trouble))


def of(settings: Settings, running_for_s: float | None = LONG_AGO_S) -> AlertStatus:
    return alert_status(settings, None if running_for_s is None else clock.now_s() - running_for_s)


def test_alerts_work_when_their_sensor_has_just_looked(settings: Settings) -> None:
    looked(settings)
    found = of(settings)
    assert (found["state"], found["message"]) == ("working", "URLs: 1, conditions that are bad: 0")
    assert (found["waiting"], found["targets"]) == (1, [None])
    assert found["age_s"] is not None
    assert list(warnings(found)) == []


def test_a_sensor_that_is_not_heard_is_noticed(settings: Settings) -> None:
    looked(settings, ago_s=LONG_AGO_S)
    found = of(settings)
    assert found["state"] == "silent"
    (warning,) = warnings(found)
    assert "has not looked for 3600 s: see alerts_sensor in Dagster" in warning


def test_one_that_never_looked_is_noticed_too_but_not_right_after_a_start(settings: Settings) -> None:
    assert of(settings)["state"] == "silent"
    assert of(settings, running_for_s=5)["state"] == "working"
    looked(settings, ago_s=LONG_AGO_S)
    assert of(settings, running_for_s=5)["state"] == "working"


def test_nothing_is_expected_of_a_platform_that_does_not_run(settings: Settings) -> None:
    looked(settings, ago_s=LONG_AGO_S)
    found = of(settings, running_for_s=None)
    assert found["state"] == "stopped"
    assert list(warnings(found)) == []


def test_no_url_is_said_without_a_warning(settings: Settings) -> None:
    looked(settings, targets=())
    found = of(settings)
    assert found["state"] == "no URLs set"
    assert list(warnings(found)) == []


def test_a_delivery_that_failed_is_a_warning_that_says_why(settings: Settings) -> None:
    looked(settings)
    with opened(settings.home) as store:
        store.failed(store.targets()[0], "Slack", "it answered 404", clock.now_s())
    found = of(settings)
    assert found["state"] == "not delivered"
    assert list(warnings(found)) == [
        "alerts: the last message to Slack was not delivered: it answered 404 (waiting: 1)"
    ]


def test_what_could_not_be_looked_at_is_a_warning(settings: Settings) -> None:
    looked(settings, trouble="feed conditions cannot be read")
    assert list(warnings(of(settings))) == ["alerts: feed conditions cannot be read"]


def test_a_store_that_cannot_be_read_is_a_warning(settings: Settings) -> None:
    (settings.home / "run").mkdir()
    (settings.home / "run" / STORE).write_text("no database, but long enough to be taken for the header of one" * 9)
    (warning,) = warnings(of(settings))
    assert "what they remember cannot be read" in warning


def test_to_ask_creates_nothing(settings: Settings) -> None:
    of(settings)
    assert list(settings.home.iterdir()) == []
