"""What status says of the layers of a lake of real files: what each has not taken in, since when, and how old it is."""

import datetime as dt
from pathlib import Path

import pytest

from k2_assets.lake.commits import commit_drained
from k2_assets.lake.rewrites import replace_files
from k2_core.lake import source_memory, tables
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.offsets import Offsets
from k2_stack import layer_status, status
from k2_stack.iceberg_metadata import LakeTable, read_tables
from k2_stack.layer_status import Below
from tests.assets.lakes import DAY, NOON, SILVER, SILVER_QUOTES, SmallLake, a_quote, a_trade, to_arrow, trades_of

BRONZE = tables.bronze_trades("binance")
NEXT_DAY = dt.timedelta(days=1)


class NoLease:
    """A lock that nobody else wants."""

    def check(self) -> None:
        pass


@pytest.fixture
def lake(tmp_path: Path) -> SmallLake:
    return SmallLake(tmp_path / "home")


def table_of(lake: SmallLake, name: str) -> LakeTable:
    return read_tables(lake.settings)[name]


def below(lake: SmallLake) -> dict[str, Below]:
    return layer_status.below(read_tables(lake.settings))


def waiting(lake: SmallLake) -> dict[str, int]:
    return {name: each.waiting for name, each in below(lake).items() if each.waiting}


def commit_times(lake: SmallLake, name: str) -> list[float]:
    return [each.at_s for each in table_of(lake, name).snapshots]


def test_each_layer_counts_what_it_has_not_taken_in(lake: SmallLake) -> None:
    lake.append(SILVER, trades_of(range(1, 6)))
    lake.append(SILVER_QUOTES, [a_quote(1)])
    assert waiting(lake) == {"gold_trades": 5, "gold_quotes": 1}

    lake.trades_refresh().take_in_news()
    assert waiting(lake) == {"gold_quotes": 1, "candles": 5}

    lake.quotes_refresh().take_in_news()
    lake.candles_refresh().take_in_news()
    assert waiting(lake) == {}

    lake.append(SILVER, [a_trade(6, 99)])
    assert waiting(lake) == {"gold_trades": 1}


def test_a_day_that_was_left_out_waits_since_its_own_commit(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1)])
    lake.append(SILVER, [a_trade(2, NOON + NEXT_DAY), a_trade(3, NOON + NEXT_DAY)])
    lake.append(SILVER, [a_trade(4, NOON + 2 * NEXT_DAY)])

    lake.trades_refresh(DAY).take_in_news()
    lake.trades_refresh(DAY + 2 * NEXT_DAY).take_in_news()

    assert below(lake)["gold_trades"] == Below(2, commit_times(lake, SILVER.name)[1])


def test_days_older_than_a_full_memory_are_not_waited_for(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_memory, "DAYS_REMEMBERED", 2)
    for days in range(3):
        lake.append(SILVER, [a_trade(days + 1, NOON + days * NEXT_DAY)])
        lake.trades_refresh(DAY + days * NEXT_DAY).take_in_news()

    assert "gold_trades" not in waiting(lake)


def test_old_trades_are_behind_only_when_they_wait_for_long(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1)])  # of the year 2024
    patient, (at_s,) = status.gather(lake.settings), commit_times(lake, SILVER.name)
    supervisor = lake.settings.supervisor.model_copy(update={"behind_after_s": 1e-9})
    impatient = status.gather(lake.settings.model_copy(update={"supervisor": supervisor}))

    assert patient["layers"]["gold_trades"]["behind"] is False
    assert impatient["layers"]["gold_trades"]["behind"] is True
    assert patient["warnings"] == []
    assert impatient["warnings"][0].startswith(
        "gold_trades is behind: rows of silver that are not taken in: 1, the oldest for "
    )
    assert layer_status.newest_at_s(read_tables(lake.settings)) == {"silver": at_s}


def drained(lake: SmallLake, start: int, following: int) -> None:
    """Commit to bronze as a drain does."""
    key = ("topic-uuid", 0)
    vectors = Offsets({key: start} if start else {}), Offsets({key: following})
    commit_drained(
        lake.table(BRONZE), to_arrow(BRONZE, [frame(offset) for offset in range(start, following)]), *vectors
    )


def frame(offset: int) -> dict[str, object]:
    place = {"topic": "t", "topic_id": "topic-uuid", "kafka_partition": 0, "kafka_offset": offset}
    empty = dict.fromkeys(column.name for column in BRONZE.columns)
    return {**empty, **place, "kafka_timestamp": NOON, "payload": b"", "ingestion_timestamp": NOON}


def test_silver_waits_since_the_first_commit_of_bronze_beyond_its_vector(lake: SmallLake) -> None:
    drained(lake, 0, 10)
    drained(lake, 10, 12)
    drained(lake, 12, 15)
    times = commit_times(lake, BRONZE.name)
    assert below(lake)["silver"] == Below(15, times[0])

    vector = Offsets({("topic-uuid", 0): 10})
    commit_drained(lake.table(SILVER), to_arrow(SILVER, []), Offsets(), vector)
    assert below(lake)["silver"] == Below(5, times[1])

    commit_drained(lake.table(SILVER), to_arrow(SILVER, []), vector, Offsets({("topic-uuid", 0): 15}))
    assert below(lake)["silver"] == Below(0, None)


def test_rows_came_with_the_last_commit_that_added_some(lake: SmallLake) -> None:
    assert table_of(lake, SILVER.name).rows_came_at_s() is None
    lake.append(SILVER, [a_trade(1)])
    lake.append(SILVER, [a_trade(2)])
    lake.append(SILVER, [])
    table = lake.table(SILVER)
    files = [entry.file for entry in table.scan().plan_files()]
    replace_files(lambda: lake.table(SILVER), NoLease(), files, files[:0], {})  # type: ignore[arg-type]
    lake.append(SILVER, [])

    times = commit_times(lake, SILVER.name)

    assert table_of(lake, SILVER.name).rows == 0
    lake.append(SILVER, [a_trade(3)])
    lake.append(SILVER, [])
    assert table_of(lake, SILVER.name).rows_came_at_s() == commit_times(lake, SILVER.name)[len(times)]


def test_candles_that_replace_others_are_new_rows(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1)])
    lake.trades_refresh().take_in_news()
    lake.candles_refresh().take_in_news()
    lake.append(SILVER, [a_trade(2, 1)])
    lake.trades_refresh().take_in_news()
    lake.candles_refresh().take_in_news()

    assert table_of(lake, GOLD_OHLCV_1M.name).rows_came_at_s() == commit_times(lake, GOLD_OHLCV_1M.name)[-1]
    assert table_of(lake, GOLD_TRADES.name).rows == 2


@pytest.mark.parametrize(
    ("asset", "layer"),
    [
        ("bronze_kraken_quotes", "bronze"),
        ("bronze_feed_events", "bronze"),
        ("silver_coinbase_rejected", "silver"),
        ("gold_crypto_trades", "gold_trades"),
        ("gold_crypto_quotes", "gold_quotes"),
        ("gold_ohlcv_1h", "candles"),
        ("reference_instruments", None),
    ],
)
def test_an_asset_belongs_to_its_layer(asset: str, layer: str | None) -> None:
    assert layer_status.layer_of(asset) == layer
