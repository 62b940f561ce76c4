"""Which changes become messages: once each, grouped, in windows; and what a restart remembers."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from k2_assets.alerts.alert_conditions import Condition, Severity
from k2_assets.alerts.alert_store import AlertStore, Look, opened, opened_to_read
from k2_assets.alerts.messages import Links, Message, messages
from k2_assets.alerts.transitions import Known, Limits, News, due, forget, still_reported, take_in

LIMITS = Limits(Severity.WARNING, again_after_s=600)
LINKS = Links("http://k2:3000/", "https://k2/docs/alerts.md")


def a_check(asset: str = "gold_crypto_trades", severity: Severity = Severity.ERROR, **other: Any) -> Condition:
    given = {"name": "fit_for_candles", "partition": "2024-08-09", "seen": "3 trades: 1 without a price.", **other}
    return Condition("check", asset, severity, **given)


class History:
    """Looks at a single kind, one after another."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.known: dict[str, Known] = {}
        self.limits = limits

    def look(self, now_s: float, *bad: Condition, send: bool = True) -> list[News]:
        take_in(self.known, ("check",), bad, now_s)
        return due(self.known, self.limits, now_s, send=send)

    def whats(self, now_s: float, *bad: Condition, send: bool = True) -> list[str]:
        return [news.what for news in self.look(now_s, *bad, send=send)]


def test_a_condition_is_reported_once_while_it_lasts_and_once_when_it_is_over() -> None:
    history = History()
    assert history.whats(1000, a_check()) == ["bad"]
    assert history.whats(1010, a_check(seen="4 trades")) == []
    assert history.whats(5000, a_check()) == []
    (over,) = history.look(5010)
    assert (over.what, over.bad_since_s) == ("recovered", 1000)
    assert history.whats(5020) == []
    assert history.known == {}


def test_a_warning_that_becomes_an_error_is_reported_again_and_not_when_it_becomes_a_warning() -> None:
    history = History()
    assert history.whats(1000, a_check(severity=Severity.WARNING)) == ["bad"]
    assert history.whats(1010, a_check()) == ["worse"]
    assert history.whats(1020, a_check(severity=Severity.WARNING)) == []
    assert history.whats(1030, a_check()) == []
    assert history.whats(1040) == ["recovered"]


def test_one_that_comes_and_goes_is_reported_once_a_window_each_time_with_its_end() -> None:
    history, reported = History(), list[tuple[float, str, int]]()
    for now_s in range(1000, 2500, 10):
        bad = [a_check()] if (now_s // 10) % 2 == 0 else []
        reported += [(now_s, news.what, news.times) for news in history.look(now_s, *bad)]
    assert reported == [
        (1000, "bad", 0),
        (1010, "recovered", 0),
        (1600, "bad", 30),
        (1610, "recovered", 0),
        (2200, "bad", 30),
        (2210, "recovered", 0),
    ]


def test_one_that_is_bad_again_within_the_window_and_stays_so_is_reported_when_the_window_ends() -> None:
    history = History()
    assert [history.whats(1000, a_check()), history.whats(1010)] == [["bad"], ["recovered"]]
    assert history.whats(1020, a_check()) == []
    assert history.whats(1599, a_check()) == []
    assert history.whats(1600, a_check()) == ["bad"]


@given(st.lists(st.tuples(st.integers(1, 400), st.sampled_from([None, Severity.WARNING, Severity.ERROR])), max_size=30))
def test_reports_alternate_and_are_few_and_end_with_how_it_is(steps: list[tuple[int, Severity | None]]) -> None:
    history, now_s, reported, bads = History(), 1000.0, False, 0
    for pause_s, severity in steps:
        now_s += pause_s
        for news in history.look(now_s, *([a_check(severity=severity)] if severity else [])):
            assert (news.what == "bad") is not reported
            reported, bads = news.what != "recovered", bads + (news.what != "recovered")
    windows = 1 + (now_s - 1000) // LIMITS.again_after_s
    assert bads <= windows * len([Severity.WARNING, Severity.ERROR])
    last = steps[-1][1] if steps else None
    history.look(now_s + LIMITS.again_after_s, *([a_check(severity=last)] if last else []))
    assert still_reported(history.known) == (last is not None)


def test_what_needs_patience_is_reported_only_when_it_lasts() -> None:
    history = History()
    assert history.whats(1000, a_check(patience_s=60)) == []
    assert history.whats(1010) == []
    assert history.whats(1020, a_check(patience_s=60)) == []
    assert history.whats(1079, a_check(patience_s=60)) == []
    assert history.whats(1080, a_check(patience_s=60)) == ["bad"]


def test_nothing_is_reported_below_the_least_severity() -> None:
    history = History(Limits(Severity.ERROR, 600))
    assert history.whats(1000, a_check(severity=Severity.WARNING)) == []
    assert history.whats(1010) == []
    assert history.whats(1020, a_check()) == ["bad"]


def test_what_is_bad_is_reported_as_soon_as_there_is_somebody_to_send_to() -> None:
    history = History()
    assert history.whats(1000, a_check(), send=False) == []
    assert history.whats(2000, a_check()) == ["bad"]


def test_a_kind_that_was_not_looked_at_stays_as_it_was_and_a_forgotten_one_does_not_recover() -> None:
    history, stale = History(), Condition("freshness", "gold_ohlcv_1m", Severity.ERROR, "late")
    take_in(history.known, ("freshness",), [stale], 1000)
    assert history.whats(1000, a_check()) == ["bad", "bad"]
    assert [news.condition.kind for news in history.look(1010)] == ["check"]
    forget(history.known, [stale.key, "nothing|of|this|kind"])
    assert history.whats(1020) == []


def test_all_changes_of_a_look_are_one_message_of_what_is_bad_and_one_of_what_recovered() -> None:
    warned = a_check("silver_binance_trades", Severity.WARNING, name="schema_and_ranges")
    run = Condition("run", "gold_ohlcv_1m", Severity.ERROR, "ValueError: no", name="x", link="/runs/12", source="12")
    news = [News("bad", warned, 1000), News("worse", run, 1000), News("recovered", a_check(), 900)]
    bad, over = messages(news, LINKS, lines=20, now_s=1010, all_well=False)
    assert (bad.title, bad.urgency) == ("K2 error: run of gold_ohlcv_1m and 1 more", "failure")
    assert bad.body == (
        "ERROR, which was a warning before: run of gold_ohlcv_1m\nValueError: no\nsince 1970-01-01 00:16:40 UTC\n"
        "http://k2:3000/runs/12\nrunbook: https://k2/docs/alerts.md#a-run-failed\n\n"
        "WARNING: check schema_and_ranges of silver_binance_trades 2024-08-09\n3 trades: 1 without a price.\n"
        "since 1970-01-01 00:16:40 UTC\nrunbook: https://k2/docs/alerts.md#a-check-fails"
    )
    assert bad.keys == (run.key, warned.key)
    assert (over.title, over.urgency) == (
        "K2 recovered: check fit_for_candles of gold_crypto_trades 2024-08-09",
        "info",
    )
    assert "it was bad for 110 s" in over.body


def test_a_message_lists_the_worst_and_counts_the_others() -> None:
    checks = [a_check(f"silver_{number}", Severity.WARNING) for number in range(30)]
    news = [News("bad", each, 1000) for each in [*checks, a_check("gold")]]
    (message,) = messages(news, LINKS, lines=5, now_s=1010, all_well=False)
    assert message.body.startswith("ERROR: check fit_for_candles of gold ")
    assert message.body.endswith("and 26 more: `k2 alerts list` shows all")
    assert len(message.keys) == 31


def test_the_last_recovery_is_a_success_so_that_a_pager_can_resolve() -> None:
    (message,) = messages([News("recovered", a_check(), 900)], LINKS, lines=5, now_s=1010, all_well=True)
    assert message.urgency == "success"


def test_a_restart_remembers_conditions_positions_and_messages(tmp_path: Path) -> None:
    history = History()
    history.look(1000, a_check())
    message = Message("title", "body", "failure", (a_check().key,))
    with opened_to_read(tmp_path) as nothing:
        assert nothing is None
    with opened(tmp_path) as store:
        store.set_targets(["one", "two"])
        store.commit(history.known, 17, [message], Look(1000, "the feed cannot be read"))
    with opened(tmp_path) as store:
        assert store.known() == history.known
        assert store.position() == 17
        assert store.look() == Look(1000, "the feed cannot be read")
        assert [[each for _, each in store.waiting(target)] for target in ("one", "two")] == [[message], [message]]
        again = History()
        again.known = store.known()
        assert again.whats(1010, a_check()) == []
        assert again.whats(1020) == ["recovered"]
        store.commit(again.known, 0, [], Look(1020, ""))
    with opened_to_read(tmp_path) as left:
        assert left is not None
        assert not any(each.bad or each.reported for each in left.known().values())


def waiting_of(store: AlertStore) -> dict[str, int]:
    return {each.id: each.waiting for each in store.targets()}


def test_what_waits_for_a_url_that_is_no_longer_set_is_dropped(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.set_targets(["one", "two"])
        store.commit({}, 0, [Message("title", "body", "info")], Look(1000, ""))
        store.set_targets(["two", "three"])
        assert waiting_of(store) == {"three": 0, "two": 1}
        store.set_targets([])
        assert waiting_of(store) == {}


def test_pauses_between_attempts_grow_and_end_with_a_delivery(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.set_targets(["one"])
        store.commit({}, 0, [Message("title", "body", "info")], Look(1000, ""))
        pauses = []
        for _ in range(9):
            (target,) = store.targets()
            store.failed(target, "JSON at host", "it answered 500", 1000)
            pauses.append(store.targets()[0].again_s - 1000)
        assert pauses == [10, 20, 40, 80, 160, 320, 640, 900, 900]
        ((number, _),) = store.waiting("one")
        store.delivered(number, "one", "JSON at host", 2000)
        (target,) = store.targets()
        assert (target.failures, target.error, target.waiting, target.delivered_s) == (0, None, 0, 2000)
