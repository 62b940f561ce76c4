"""What Dagster shows of gold and of the routes behind it: facts of a day, the picture of candles, what routes serve."""

import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import serialize_value

from k2_assets import rest_routes
from k2_assets.gold.candle_chart import draw
from k2_assets.gold.day_report import facts
from k2_assets.gold.gold_day import GoldDay
from k2_assets.lake.lake_resource import Lake
from k2_assets.rest_routes import ROUTES, RouteReports
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_TABLES, GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SILVER, SmallLake, a_trade, trades_of

MOST_BYTES = 4096


@pytest.fixture(name="gold")
def a_lake_with_gold(lake: SmallLake) -> Lake:
    lake.append(SILVER, [*trades_of(range(1, 100), 60), a_trade(7, 30, symbol="E<R&T", price="0.000000012")])
    opened = Lake(lake.settings)
    for spec in (GOLD_TRADES, *CANDLES):
        GoldDay(opened, spec.name, DAY).rebuild()
    return opened


def test_a_report_of_gold_shows_the_whole_day_and_is_small(gold: Lake) -> None:
    for name, spec in GOLD_TABLES.items():
        day = GoldDay(gold, name, DAY)
        shown = facts(day, day.nothing_done())

        event = dg.AssetMaterialization(name, partition=DAY.isoformat(), metadata=shown)
        assert len(serialize_value(event)) < MOST_BYTES
        unit, has_rows = spec.partition_unit, name != "gold_crypto_quotes"
        assert shown.keys() >= {"dagster/partition_row_count", f"files of the {unit}", f"bytes of the {unit}"}
        assert (shown["dagster/partition_row_count"] > 0) == has_rows
        assert (shown.keys() >= {"newest row", "sequence number"}) == has_rows
        assert (spec.timeframe is not None) == ("chart" in shown) == ("newest candles" in shown)


def test_the_picture_is_where_the_webserver_serves_it_and_is_drawn_once_an_hour(gold: Lake, lake: SmallLake) -> None:
    day = GoldDay(gold, GOLD_OHLCV_1M.name, DAY)

    address = facts(day, day.nothing_done())["chart"].md_str.partition("(")[2].rstrip(")")

    storage = gold.settings.home / "dagster" / "storage"
    served, _, drawn_at = address.removeprefix("/logs/").partition("?")
    *key, extension = served.split("/")
    path = Path(LocalComputeLogManager(str(storage)).get_captured_local_path(key, extension))
    before = path.read_text()
    assert int(drawn_at) == int(path.stat().st_mtime)
    titles = [text.text for text in ET.fromstring(before).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314  # our own
    assert titles[0] == "BTCUSDT at binance: 100"
    assert "E<R&T at binance: 0.000000012" in titles
    assert "2024-08-09 12:00" in titles
    lake.append(SILVER, [a_trade(100, NOON + timedelta(hours=3), price="120")])
    for name in (GOLD_TRADES.name, GOLD_OHLCV_1M.name):
        GoldDay(gold, name, DAY).rebuild()
    facts(day, day.nothing_done())
    assert path.read_text() == before
    os.utime(path, (1, 1))
    facts(day, day.nothing_done())
    assert "BTCUSDT at binance: 120" in path.read_text()


def test_a_picture_that_cannot_be_written_costs_no_report(gold: Lake) -> None:
    (gold.settings.home / "dagster").write_text("not a folder")
    day = GoldDay(gold, GOLD_OHLCV_1M.name, DAY)

    assert "chart" not in facts(day, day.nothing_done())


def test_a_picture_of_one_candle_or_of_thousands_has_some_kilobytes() -> None:
    for count in (1, 5000):
        number = pl.Series(range(count))
        candles = pl.DataFrame(
            {
                "symbol": ["BTCUSDT"] * count,
                "exchange": ["binance"] * count,
                "window_start": [NOON + timedelta(minutes=each) for each in number],
                "close_price": [Decimal(each % 97) for each in number],
                "trade_count": number,
            }
        )
        picture = draw(candles)
        ET.fromstring(picture)  # noqa: S314  # our own
        assert len(picture) < 10_000


def test_routes_report_from_when_on_and_until_when_they_have_rows(gold: Lake) -> None:
    events = {event.asset_key.to_user_string(): event for event in RouteReports(gold).due()}

    # There are no quotes, and of them nothing can be reported.
    assert set(events) == {route.key.to_user_string() for route in ROUTES} - {"rest/v1/quotes"}
    assert events["rest/v1/trades"].metadata["rows"].value == 100
    assert events["rest/v1/trades"].metadata["oldest row"].value == NOON.timestamp()
    assert events["rest/v1/ohlcv/1d"].metadata["rows"].value == 2


def test_routes_are_reported_once_in_a_run_and_as_soon_as_there_are_rows(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_routes, "_LOOK_S", 0.0)
    opened = Lake(lake.settings)
    routes = RouteReports(opened)
    assert list(routes.due()) == []
    lake.append(SILVER, [a_trade(1)])
    GoldDay(opened, GOLD_TRADES.name, DAY).rebuild()

    assert {event.asset_key.to_user_string() for event in routes.due()} == {"rest/v1/trades", "rest/v1/symbols"}
    assert list(routes.due()) == []
