"""The loop of refine on small lakes: the order of its days, its faults by day, and what it tells Dagster."""

import threading
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

import dagster as dg
import pytest

from k2_assets.gold.checks import GOLD_CHECKS, GoldCheck
from k2_assets.gold.day_report import SEQUENCE, sequences
from k2_assets.gold.gold_day import GoldDay
from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.kept_runs.heartbeat import read_beat
from k2_assets.kept_runs.kept_run import kept_refine
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.table_lock import lock
from k2_assets.orchestration.check_evaluations import Event
from k2_assets.refine import refine_loop, refine_report
from k2_assets.refine.refine_job import has_failed, reported
from k2_assets.refine.refine_loop import Refine, Refreshed
from k2_assets.refine.refine_report import Reporter
from k2_core import clock
from k2_core.lake.removed_days import RemovedDays
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TABLES, GOLD_TRADES
from k2_core.settings import Drain
from tests.assets.lakes import DAY, NOON, SILVER, SILVER_QUOTES, SmallLake, a_quote, a_trade, gold_of, trades_of

TRADES = GOLD_TRADES.name
OF_TRADES = gold_of(SILVER)


@pytest.fixture
def refine(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> Refine:
    monkeypatch.setattr(refine_loop, "_STILL_S", 0.0)
    return Refine(Lake(lake.settings), "run", threading.Event())


def until(refine: Refine, enough: Callable[[list[Refreshed]], bool]) -> list[Refreshed]:
    """Let it work until a look after which ``enough`` holds; return what it refreshed."""
    done: list[Refreshed] = []
    deadline = clock.monotonic() + 120
    for refreshed in refine.steps():
        if refreshed is not None:
            done.append(refreshed)
        elif enough(done):
            break
        assert clock.monotonic() < deadline, (done, refine.trouble())
    return done


def caught_up(refine: Refine) -> list[Refreshed]:
    return until(refine, lambda _: all(refine.is_caught_up(table) for table in GOLD_TABLES))


def seen(done: list[Refreshed]) -> list[tuple[str, date]]:
    return [(each.day.table, each.day.day) for each in done]


def test_the_newest_day_comes_first_and_its_candles_right_after_its_trades(lake: SmallLake, refine: Refine) -> None:
    lake.append(SILVER, [a_trade(n, NOON + timedelta(days=n)) for n in range(4)])
    lake.append(SILVER_QUOTES, [a_quote(1, NOON + timedelta(days=3))])

    done = seen(caught_up(refine))

    newest = DAY + timedelta(days=3)
    assert done[: len(GOLD_TABLES)] == [(table, newest) for table in GOLD_TABLES]
    assert [day for table, day in done if table == TRADES] == [DAY + timedelta(days=n) for n in (3, 2, 1, 0)]
    assert len(lake.gold()) == len(lake.candles()) == 4


def test_a_rebuilt_day_whose_silver_retention_removed_is_left_and_said(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = DAY + timedelta(days=1)
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    caught_up(refine)
    with lake.table(SILVER).transaction() as transaction:
        transaction.delete(f"timestamp < '{newest}T00:00:00+00:00'")
        transaction.set_properties({**RemovedDays([DAY]).to_properties(), "k2.rebuilt": f'{{"{DAY}":"token"}}'})
    lake.append(SILVER, [a_trade(3, NOON + timedelta(days=1, minutes=1))])

    tried, whole_day = [], GoldRefresh._whole_day
    monkeypatch.setattr(GoldRefresh, "_whole_day", lambda self, gold: (tried.append(1), whole_day(self, gold))[1])

    done = until(refine, lambda found: (GOLD_OHLCV_1M.name, newest) in seen(found) and len(tried) >= 2)

    assert {day for _, day in seen(done)} == {newest}
    assert refine.trouble().startswith(f"{TRADES} of {DAY}: {TRADES} of {DAY} stays as it is: ")
    assert refine._troubles[TRADES, DAY].pause_s > refine_loop._RETRY_FIRST_S  # it is tried more and more seldom
    assert len(lake.gold()) == 3


def test_one_old_day_comes_between_two_looks_at_the_newest(lake: SmallLake, refine: Refine) -> None:
    """As when a snapshot of an illiquid pair brings fifty days, while the newest goes on."""
    days, newest = 6, DAY + timedelta(days=6)
    lake.append(SILVER, [a_trade(n, NOON + timedelta(days=n)) for n in range(days + 1)])
    number = days

    def more(done: list[Refreshed]) -> bool:
        nonlocal number
        number += 1
        lake.append(SILVER, [a_trade(number, NOON + timedelta(days=days, seconds=number))])
        return len({each.day.day for each in done}) == days + 1

    done = [day for table, day in seen(until(refine, more)) if table == TRADES]

    old = [day for day in done if day != newest]
    assert old == [DAY + timedelta(days=n) for n in reversed(range(days))]
    assert done[::2] == [newest] * len(done[::2]), "every other one is the newest"


def test_a_day_that_fails_keeps_no_other_from_its_turn_and_is_said(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, take_in_news = DAY + timedelta(days=1), GoldDay.take_in_news
    failed: list[GoldDay] = []

    def fails_once(day: GoldDay) -> object:
        if day.day == newest and not failed:
            failed.append(day)
            raise ZeroDivisionError("of a day")
        return take_in_news(day)

    monkeypatch.setattr(GoldDay, "take_in_news", fails_once)
    monkeypatch.setattr(refine_loop, "_RETRY_FIRST_S", 0.05)
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])

    first = until(refine, lambda done: len(done) == len(OF_TRADES))

    assert seen(first) == [(table, DAY) for table in OF_TRADES]
    assert refine.trouble() == f"{TRADES} of {newest}: ZeroDivisionError: of a day"
    assert seen(caught_up(refine)) == [(table, newest) for table in OF_TRADES]
    assert refine.trouble() == ""


def test_trouble_is_in_the_heartbeat(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GoldDay, "take_in_news", lambda _: 1 / 0)
    lake.append(SILVER, [a_trade(1)])
    settings = lake.settings.model_copy(update={"drain": Drain(beat_interval_s=0.05)})

    def said(_: list[Refreshed]) -> bool:
        beat = read_beat(kept_refine(settings).store, "refine")
        return beat is not None and "ZeroDivisionError" in beat.detail

    until(Refine(Lake(settings), "run", threading.Event()), said)


def test_a_day_that_a_person_rebuilds_is_left_alone_meanwhile(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine_loop, "_RETRY_FIRST_S", 0.05)
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    with lock(lake.catalog, f"day:{TRADES}:{DAY}", 0):
        looks = 0

        def several(_: list[Refreshed]) -> bool:
            nonlocal looks
            looks += 1
            return looks > 5

        assert (TRADES, DAY) not in seen(until(refine, several))
        assert refine.trouble() == ""
    assert (TRADES, DAY) in seen(caught_up(refine))


def test_no_candle_is_made_of_trades_that_are_unfit(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine_loop, "_RETRY_FIRST_S", 0.05)
    lake.append(SILVER, trades_of(range(1, 100)))
    caught_up(refine)
    before = lake.candles()
    reporter = Reporter(refine, 0, none_reported, never_failed)
    events = list(reporter.due())
    lake.append(GOLD_TRADES, [a_trade(500, 50, price="-1")])  # past our own writer

    until(refine, lambda _: "price > 0: 1 not" in refine.trouble())

    assert evaluations(events)["fit_for_candles"]
    assert not evaluations(list(Reporter(refine, 0, none_reported, never_failed).due()))["fit_for_candles"]
    for number in range(100, 112):  # more commits than are the newest
        lake.append(SILVER, [a_trade(number, number + 3600)])
        lake.trades_refresh().take_in_news()
    again = Refine(Lake(lake.settings), "the next run", threading.Event())
    until(again, lambda _: "price > 0: 1 not" in again.trouble())
    assert lake.candles() == before


def none_reported(_table: str) -> dict[date, int | None]:
    return {}


def never_failed(_check: GoldCheck, _day: date) -> bool:
    return False


def evaluations(events: list[Event]) -> dict[str, bool]:
    return {each.check_name: each.passed for each in events if isinstance(each, dg.AssetCheckEvaluation)}


def test_each_report_is_followed_by_how_the_checks_of_the_day_stand(lake: SmallLake, refine: Refine) -> None:
    lake.append(SILVER, trades_of(range(1, 100)))
    reporter = Reporter(refine, 3600, none_reported, never_failed)
    for refreshed in caught_up(refine):
        reporter.add(refreshed)

    events = list(reporter.due())

    said = [
        (each.asset_key.to_user_string(), "" if isinstance(each, dg.AssetMaterialization) else each.check_name)
        for each in events
    ]
    checks = [(each.table, each.name) for each in GOLD_CHECKS if each.table in OF_TRADES and each.by_refine]
    assert sorted(said) == sorted([*((table, "") for table in OF_TRADES), *checks])
    assert all(said.index((table, "")) < said.index((table, name)) for table, name in checks)
    assert {each.partition for each in events} == {DAY.isoformat()}
    [trades] = [
        each for each in events if isinstance(each, dg.AssetMaterialization) and each.asset_key == dg.AssetKey(TRADES)
    ]
    assert trades.metadata["rows added"].value == 99
    assert list(reporter.due()) == [], "at most once in its interval"


@pytest.mark.parametrize("recorded", [None, 0, 1])
def test_a_day_that_is_not_the_newest_is_reported_when_its_table_has_moved_since(
    lake: SmallLake, refine: Refine, recorded: int | None
) -> None:
    """None as by a K2 that did not tell how the table was."""
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    caught_up(refine)
    numbers = {table: sequences(refine.lake, table) for table in OF_TRADES}
    assert numbers[TRADES][DAY] > 1

    with dg.DagsterInstance.ephemeral() as instance:
        for table, days in numbers.items():
            metadata = {} if recorded is None else {SEQUENCE: days[DAY] - recorded}
            older = dg.AssetMaterialization(table, partition=DAY.isoformat(), metadata={SEQUENCE: 1})
            instance.report_runless_asset_event(older)
            newer = dg.AssetMaterialization(table, partition=DAY.isoformat(), metadata=metadata)
            instance.report_runless_asset_event(newer)
        reporter = Reporter(refine, 0, partial(reported, instance), never_failed)
        days = {each.partition for each in reporter.due() if isinstance(each, dg.AssetMaterialization)}

    newest = (DAY + timedelta(days=1)).isoformat()
    assert days == ({newest, DAY.isoformat()} if recorded else {newest})


def test_many_days_to_report_hold_up_no_refresh(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Dagster's storage is new: what is left is reported at the next looks, newest day first."""
    monkeypatch.setattr(refine_report, "_LOOK_S", 0.0)
    lake.append(SILVER, [a_trade(number, NOON + timedelta(days=number)) for number in range(5)])
    caught_up(refine)
    reporter = Reporter(refine, 3600, none_reported, never_failed)

    looks = [
        {each.partition for each in reporter.due() if isinstance(each, dg.AssetMaterialization)}
        for _ in range(5 * len(OF_TRADES) + 2)
    ]

    newest_first = [(DAY + timedelta(days=number)).isoformat() for number in (4, 3, 2, 1, 0) for _ in OF_TRADES]
    assert looks == [*({day} for day in newest_first), set(), set()]


def test_a_quiet_market_is_reported_as_fresh_only_while_gold_is_caught_up(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, trades_of(range(1, 10)))
    caught_up(refine)
    reporter = Reporter(refine, 0, none_reported, never_failed)
    assert {each.asset_key.to_user_string() for each in reporter.due()} == {*OF_TRADES}
    assert {each.asset_key.to_user_string() for each in reporter.due()} == {*OF_TRADES}

    monkeypatch.setattr(GoldDay, "take_in_news", lambda _: 1 / 0)
    lake.append(SILVER, [a_trade(11, 400)])
    until(refine, lambda _: bool(refine.trouble()))
    assert {each.asset_key.to_user_string() for each in reporter.due()} == {*OF_TRADES} - {TRADES}


def test_a_repeated_trade_stays_reported_until_it_is_gone(lake: SmallLake, refine: Refine) -> None:
    lake.append(SILVER, trades_of(range(1, 10)))
    caught_up(refine)
    lake.append(GOLD_TRADES, [a_trade(1)])  # past our own writer
    reporter = Reporter(refine, 0, none_reported, never_failed)

    assert not evaluations(list(reporter.due()))["unique_message_id"]
    for number in range(20, 32):  # newer files than are judged
        lake.append(SILVER, [a_trade(number, 3600 + number)])
        caught_up(refine)
    assert not evaluations(list(reporter.due()))["unique_message_id"]

    next_run = Reporter(refine, 0, none_reported, lambda check, _: check.name == "unique_message_id")
    assert not evaluations(list(next_run.due()))["unique_message_id"], "the next run looks at the whole day as well"

    GoldDay(refine.lake, TRADES, DAY).rebuild()
    assert evaluations(list(reporter.due()))["unique_message_id"]


def test_a_day_on_which_the_feed_ended_does_not_lag_for_ever(lake: SmallLake, refine: Refine) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=3))])
    caught_up(refine)
    reporter = Reporter(refine, 0, none_reported, lambda check, day: (check.name, day) == ("event_time_lag", DAY))

    lags = [each for each in reporter.due() if isinstance(each, dg.AssetCheckEvaluation) and each.partition == str(DAY)]

    assert ("event_time_lag", True) in {(each.check_name, each.passed) for each in lags}
    assert any(each.description == f"{DAY} is over: only the newest day can lag." for each in lags)


def test_a_run_knows_which_checks_failed_before_it() -> None:
    unique = next(check for check in GOLD_CHECKS if (check.table, check.name) == (TRADES, "unique_message_id"))

    def judged(instance: dg.DagsterInstance, day: date, passed: bool) -> None:
        @dg.op
        def report(context: dg.OpExecutionContext) -> None:
            context.log_event(
                dg.AssetCheckEvaluation(dg.AssetKey(TRADES), unique.name, passed, partition=day.isoformat())  # type: ignore[arg-type]
            )

        @dg.job
        def reports() -> None:
            report()

        assert reports.execute_in_process(instance=instance).success

    with dg.DagsterInstance.ephemeral() as instance:
        assert not has_failed(instance, unique, DAY)
        judged(instance, DAY, passed=False)
        judged(instance, DAY + timedelta(days=1), passed=True)
        assert has_failed(instance, unique, DAY)
        assert not has_failed(instance, unique, DAY + timedelta(days=1))
        judged(instance, DAY, passed=True)
        assert not has_failed(instance, unique, DAY)


def test_a_catalog_that_is_away_is_waited_for_and_said(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = refine.news.days, 0

    def away_at_first() -> dict[str, set[date]]:
        nonlocal looks
        looks += 1
        if looks < 4 and looks != 1:  # in the midst of a day, too
            raise OSError("away")
        return look()

    monkeypatch.setattr(refine_loop, "_RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(refine.news, "days", away_at_first)
    lake.append(SILVER, trades_of(range(1, 10)))

    assert seen(caught_up(refine)) == [(table, DAY) for table in OF_TRADES]


def test_what_cannot_be_reported_is_reported_later(
    lake: SmallLake, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, trades_of(range(1, 10)))
    reporter = Reporter(refine, 0, none_reported, never_failed)
    for refreshed in caught_up(refine):
        reporter.add(refreshed)

    with monkeypatch.context() as broken:
        broken.setattr(refine_report, "facts", lambda *_: 1 / 0)
        assert list(reporter.due()) == []

    events = [each for each in reporter.due() if isinstance(each, dg.AssetMaterialization)]
    assert {each.metadata["rows added"].value for each in events if "rows added" in each.metadata} == {9}
