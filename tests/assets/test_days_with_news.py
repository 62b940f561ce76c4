"""Which days of gold have news: those with files or rebuilt days below that they have not taken in, and no others."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from k2_assets.lake.lake_resource import Lake
from k2_assets.reference import epoch_register
from k2_assets.refine.days_with_news import News
from k2_assets.silver.epochs_sensor import epochs_sensor
from k2_core import clock
from k2_core.lake import source_memory
from k2_core.lake.tables import CANDLES, GOLD_QUOTES, GOLD_TRADES, derived_from
from tests.assets.lakes import DAY, NOON, SILVER, SILVER_QUOTES, SmallLake, a_quote, a_trade, trades_of

TRADES, QUOTES = GOLD_TRADES.name, GOLD_QUOTES.name
NEXT = DAY + timedelta(days=1)


@pytest.fixture
def news(lake: SmallLake) -> News:
    return News(Lake(lake.settings))


def of(news: News) -> dict[str, set[date]]:
    """Return the tables that have news, with their days."""
    return {table: days for table, days in news.days().items() if days}


def refresh(lake: SmallLake, days: int = 0) -> None:
    lake.trades_refresh(DAY + timedelta(days=days)).take_in_news()
    lake.candles_refresh(DAY + timedelta(days=days)).take_in_news()
    lake.refresh_wider_candles()


def test_days_have_news_until_they_are_taken_in(lake: SmallLake, news: News) -> None:
    assert of(news) == {}

    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    assert of(news) == {TRADES: {DAY, NEXT}}

    lake.trades_refresh().take_in_news()
    assert of(news) == {TRADES: {NEXT}, **{name: {DAY} for name in derived_from(TRADES)}}

    refresh(lake)
    assert of(news) == {TRADES: {NEXT}}

    refresh(lake, days=1)
    assert of(news) == {}

    lake.append(SILVER, [a_trade(1, offset=99)])
    assert of(news) == {TRADES: {DAY}}
    refresh(lake)
    assert of(news) == {}


def test_nothing_is_read_while_no_table_has_changed(
    lake: SmallLake, news: News, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, [a_trade(1)])
    assert of(news) == {TRADES: {DAY}}

    monkeypatch.setattr(Lake, "table", lambda *_: pytest.fail("a table was loaded"))
    assert of(news) == {TRADES: {DAY}}


def test_a_day_that_was_still_to_come_has_news_once_it_begins(
    lake: SmallLake, news: News, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    tomorrow = now + timedelta(days=1)
    lake.append(SILVER, [a_trade(1, tomorrow)])
    assert of(news) == {}

    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    assert of(news) == {TRADES: {tomorrow.date()}}


def test_days_that_are_no_days_of_data_have_no_news(lake: SmallLake, news: News) -> None:
    lake.append(SILVER, [a_trade(1, datetime(1999, 1, 1, tzinfo=UTC)), a_trade(2, datetime(2199, 1, 1, tzinfo=UTC))])

    assert of(news) == {}


def test_days_older_than_the_memory_have_no_news_again_and_again(
    lake: SmallLake, news: News, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill of more days than are remembered ends, and leaves no news."""
    monkeypatch.setattr(source_memory, "DAYS_REMEMBERED", 2)
    lake.append(SILVER, [a_trade(n, NOON + timedelta(days=n)) for n in range(4)])

    for day in (3, 2, 1, 0):
        refresh(lake, day)

    assert of(news) == {}
    assert len(lake.gold()) == len(lake.candles()) == 4

    lake.append(SILVER, [a_trade(9, offset=9)])
    refresh(lake)
    assert len(lake.gold()) == 5


def test_days_of_quotes_have_news_beside_those_of_trades(lake: SmallLake, news: News) -> None:
    lake.append(SILVER_QUOTES, [a_quote(1), a_quote(2, NOON + timedelta(days=1))])
    lake.append(SILVER, [a_trade(1)])
    assert of(news) == {TRADES: {DAY}, QUOTES: {DAY, NEXT}}

    lake.quotes_refresh().take_in_news()
    refresh(lake)
    assert of(news) == {QUOTES: {NEXT}}


def asked_of_silver(lake: SmallLake) -> dict[str, set[str]]:
    """Day → names of the assets that the sensor of epochs asks for."""
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        result = epochs_sensor(Lake(lake.settings))(context)
    requests = result.run_requests or [] if isinstance(result, dg.SensorResult) else []
    assert all(each.has_resolved_partition() for each in requests)  # so that no first partition is in its way
    return {str(each.partition_key): {key.to_user_string() for key in each.asset_selection or []} for each in requests}


def test_days_whose_ids_an_epoch_changes_are_news_of_gold_and_once_drains_know_it_asked_of_silver(
    lake: SmallLake, news: News, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, [*trades_of(range(1, 5), 30), *trades_of(range(1, 5), 30, 43_190, quantity="2")])
    for days in (0, 1):
        refresh(lake, days)

    assert of(news) == {TRADES: {DAY}}
    assert asked_of_silver(lake) == {}
    monkeypatch.setattr(epoch_register, "_DRAINS_KNOW_S", 0.0)
    assert asked_of_silver(lake) == {DAY.isoformat(): {SILVER.name}, NEXT.isoformat(): {SILVER.name}}
    refresh(lake)
    assert of(news) == {}


def test_news_of_open_windows_waits_a_minute_and_of_closed_ones_not_at_all(
    lake: SmallLake, news: News, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, passed = [NOON + timedelta(minutes=2)], [1_000.0]
    monkeypatch.setattr(clock, "now", lambda: moment[0])
    monkeypatch.setattr(clock, "monotonic", lambda: passed[0])
    wider = [spec.name for spec in CANDLES[1:]]

    def minute_grows(trade_id: int, second: float) -> dict[str, set[date]]:
        moment[0] += timedelta(milliseconds=1)
        lake.append(GOLD_TRADES, [a_trade(trade_id, second)])
        lake.candles_refresh().take_in_news()
        return {table: days for table, days in of(news).items() if table != GOLD_QUOTES.name}

    lake.append(GOLD_TRADES, [a_trade(1, -3_600)])
    refresh(lake)
    assert minute_grows(2, 0) == {name: {DAY} for name in wider}  # their first news
    refresh(lake)
    assert of(news) == {}
    assert minute_grows(3, 30) == {}  # all windows are open
    passed[0] += 61
    assert of(news) == {name: {DAY} for name in wider}
    refresh(lake)
    moment[0] = NOON + timedelta(minutes=5, seconds=2)
    assert minute_grows(4, 301) == {wider[0]: {DAY}}  # five minutes are over, and their last trade is bounded
    refresh(lake)
    assert minute_grows(5, 302) == {wider[0]: {DAY}}  # minutes that did not change are in a new file, too
    refresh(lake)
    assert minute_grows(6, 303) == {}


def test_a_backfill_of_old_days_does_not_keep_open_windows_waiting(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, passed = [NOON + timedelta(minutes=1)], [1_000.0]
    monkeypatch.setattr(clock, "now", lambda: moment[0])
    monkeypatch.setattr(clock, "monotonic", lambda: passed[0])
    news = News(Lake(lake.settings))

    def add(number: int, second: float, *, wider: bool) -> None:
        row = a_trade(number, second)
        lake.append(GOLD_TRADES, [row])
        for spec in CANDLES if wider else CANDLES[:1]:
            lake.candles_refresh(row["timestamp"].date(), spec).take_in_news()

    add(1000, 0, wider=True)
    news.days()
    add(1001, 30, wider=False)  # all windows are open
    waited = 0
    while not any(DAY in days for table, days in news.days().items() if table in {spec.name for spec in CANDLES[1:]}):
        waited += 30
        assert waited < 300, "a minute's news of today waits for ever while older days are written"
        moment[0] += timedelta(seconds=0.5)
        passed[0] += 30
        add(waited, -86_400 * (2 + waited // 30), wider=True)  # a day of history
