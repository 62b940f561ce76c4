"""Messages whose rows cannot be written: each is stored as bytes, its neighbours go on, and too many stop the drain."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2_assets.kafka.topic_reader import Messages
from k2_assets.topic_tables import drained_tables, frame_tables
from k2_assets.topic_tables.drained_tables import Batch, Rows
from k2_assets.topic_tables.event_tables import EventLayers
from k2_assets.topic_tables.faulty_messages import culprits
from k2_assets.topic_tables.frame_tables import Layers
from k2_core.errors import NotStorable
from k2_core.offsets import Offsets
from k2_core.raw_frame import Encoder
from k2_core.venues import binance
from tests.assets.drained import BRONZE, REJECTED, SILVER, DrainedLake, KnownSchemas, only_once, received
from tests.assets.frames import NOON_MS, NOON_NS, OURS, TOPIC, a_frame
from tests.assets.lakes import Row

UNCOUNTABLE = "Z" * 15 + "\ud7ff"  # cut to 16 characters, its end cannot be counted up
Write = Callable[..., Any]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


def refuse(monkeypatch: pytest.MonkeyPatch, column: str, values: set[object], error: BaseException) -> None:
    """Let a table refuse rows that have one of ``values`` in ``column``, as a library with a fault would."""
    original: Write = drained_tables.write_files

    def write(table: Any, batches: list[pa.Table]) -> Any:
        for rows in batches:
            if column in rows.schema.names and values & set(rows[column].to_pylist()):
                raise error
        return original(table, batches)

    monkeypatch.setattr(drained_tables, "write_files", write)
    monkeypatch.setattr("k2_assets.silver.existing_rows.write_files", write)


def ids(numbers: range) -> list[bytes]:
    return [received(a_frame(number)) for number in numbers]


def offsets(rows: list[Row]) -> list[int]:
    return sorted(row["kafka_offset"] for row in rows)


def test_a_text_whose_end_cannot_be_counted_up_stands_like_any_other(lake: DrainedLake) -> None:
    symbol = f"{UNCOUNTABLE}X/USD"
    trade = {"symbol": symbol, "side": "buy", "price": 1.5, "qty": 1, "ord_type": "limit", "trade_id": 1}
    poison = json.dumps(
        {"channel": "trade", "type": "update", "data": [trade | {"timestamp": "2024-08-09T12:00:00Z"}]},
        ensure_ascii=False,
    ).encode()
    encoder = Encoder(OURS, "kraken", f"{UNCOUNTABLE} connection")

    lake.drain(*ids(range(3)), encoder.encode(NOON_NS, 1, "trade", symbol, poison), *ids(range(3, 6)))

    (bronze,) = [row for row in lake.rows(BRONZE) if row["kafka_offset"] == 3]
    assert (bronze["symbol"], bronze["payload"], bronze["unread"]) == (symbol, poison, None)
    assert offsets(lake.rows(BRONZE)) == list(range(7))
    assert lake.ids() == list(range(6))


@pytest.mark.parametrize(
    ("column", "value"),
    [("symbol", "POISON"), ("error", "price 'poison' is not a decimal number"), ("source_sequence", 5)],
    ids=["bronze", "rejected", "silver"],
)
def test_a_message_that_one_table_refuses_stands_as_bytes(
    lake: DrainedLake, monkeypatch: pytest.MonkeyPatch, column: str, value: object
) -> None:
    refuse(monkeypatch, column, {value}, UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"))
    payload = a_frame(5, p="poison") if column == "error" else a_frame(5)
    bad = Encoder(OURS, "binance", "c").encode(NOON_NS, 1, "trade", "POISON", payload)

    lake.drain(*ids(range(5)), bad, *ids(range(6, 40)))

    assert lake.ids() == [*range(5), *range(6, 40)]
    (bronze,) = [row for row in lake.rows(BRONZE) if row["kafka_offset"] == 5]
    assert bronze["payload"] == payload
    assert (bronze["symbol"], bronze["channel"], bronze["min_event_ts"]) == (None, None, None)
    assert bronze["unread"].startswith("not_storable: ")
    (rejected,) = lake.rows(REJECTED)
    assert (rejected["kafka_offset"], rejected["reason"]) == (5, "not_storable")
    assert rejected["payload"] == bronze["payload"]

    before = lake.picture(SILVER), lake.picture(REJECTED)
    lake.rebuild()

    assert (lake.picture(SILVER), lake.picture(REJECTED)) == before


def test_a_message_that_cannot_even_be_decoded_stands_as_bytes(
    lake: DrainedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = frame_tables.decode_messages
    poison = {received(a_frame(number)) for number in (3, 4, 17)}

    def decode(messages: Messages, *others: Any) -> Any:
        if poison & set(messages.values):
            raise OverflowError("an int too large")
        return original(messages, *others)

    monkeypatch.setattr(frame_tables, "decode_messages", decode)

    lake.drain(*ids(range(20)))

    assert lake.ids() == [number for number in range(20) if number not in {3, 4, 17}]
    assert offsets(lake.rows(BRONZE)) == list(range(20))
    assert {row["payload"] for row in lake.rows(BRONZE) if row["unread"]} == poison
    assert {(row["kafka_offset"], row["reason"]) for row in lake.rows(REJECTED)} == {
        (at, "not_storable") for at in (3, 4, 17)
    }


def test_what_is_made_from_bronze_later_is_the_same(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drain ends after bronze alone, which was stored when silver refused nothing."""
    original = drained_tables.commit_drained
    monkeypatch.setattr(drained_tables, "commit_drained", only_once(original))
    with pytest.raises(OSError, match="the disk is gone"):
        lake.drain(*ids(range(30)))
    monkeypatch.setattr(drained_tables, "commit_drained", original)
    refuse(monkeypatch, "source_sequence", {5, 6}, ValueError("refused"))

    behind = Layers(lake.catalog, lake.namespace, binance).catch_up(KnownSchemas(), lambda _: None)

    assert behind == 60
    assert lake.ids() == [number for number in range(30) if number not in {5, 6}]
    assert offsets(lake.rows(REJECTED)) == [5, 6]
    before = lake.picture(SILVER), lake.picture(REJECTED)
    assert lake.rebuild().rows_written == 0
    assert (lake.picture(SILVER), lake.picture(REJECTED)) == before

    monkeypatch.undo()
    lake.rebuild()

    assert lake.ids() == list(range(30))
    assert lake.rows(REJECTED) == []


def test_a_catch_up_reads_and_makes_no_more_at_once_than_fits(
    lake: DrainedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = drained_tables.commit_drained
    many = json.dumps([{}] * 50).encode()
    with monkeypatch.context() as patch:
        patch.setattr(drained_tables, "commit_drained", only_once(original))
        with pytest.raises(OSError, match="the disk is gone"):
            lake.drain(*ids(range(30)), *[received(many)] * 5)
    commits: list[int] = []
    monkeypatch.setattr(drained_tables, "commit_drained", lambda *args: (commits.append(1), original(*args))[1])
    monkeypatch.setattr(frame_tables, "PIECE_BYTES", 2_000)
    monkeypatch.setattr("k2_assets.decode.frame_parsing.MOST_ROWS", 4)

    Layers(lake.catalog, lake.namespace, binance).catch_up(KnownSchemas(), lambda _: None)

    assert len(commits) > 12
    assert lake.ids() == list(range(30))
    assert sum(lake.frames(REJECTED).values()) == 5


@pytest.mark.parametrize("error", [MemoryError("no memory"), OSError(28, "No space left on device")])
def test_what_is_no_fault_of_content_is_never_isolated(
    lake: DrainedLake, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    refuse(monkeypatch, "source_sequence", {5}, error)

    with pytest.raises(type(error)):
        lake.drain(*ids(range(30)))

    assert lake.rows(BRONZE) == []


def test_a_fault_that_passes_by_the_second_time_is_none(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = drained_tables.write_files, iter([True])

    def write(*arguments: Any) -> Any:
        if next(calls, False):
            raise ValueError("once")
        return original(*arguments)

    monkeypatch.setattr(drained_tables, "write_files", write)

    lake.drain(*ids(range(10)))

    assert lake.ids() == list(range(10))
    assert lake.rows(REJECTED) == []


@pytest.mark.parametrize(("bad", "count"), [(11, 40), (30, 30), (21, 2_000)])
def test_too_many_messages_at_fault_stop_the_drain_loudly(
    lake: DrainedLake, monkeypatch: pytest.MonkeyPatch, bad: int, count: int
) -> None:
    refuse(monkeypatch, "source_sequence", set(range(1, bad + 1)), ValueError("refused"))

    with pytest.raises(NotStorable, match=r"ValueError: refused.* messages are at fault"):
        lake.drain(*ids(range(1, count + 1)))

    assert lake.rows(BRONZE) == []


def test_a_table_that_refuses_every_row_stops_the_drain(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> Any:
        raise ValueError("no row at all")

    monkeypatch.setattr(drained_tables, "write_files", write)

    with pytest.raises(ValueError, match="no row at all"):
        lake.drain(*ids(range(3)))


def test_a_fault_of_the_lake_is_no_fault_of_a_small_batch(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    def bronze_rows(*_: Any) -> Any:
        raise ValueError("Could not find column: 'quote'")

    monkeypatch.setattr(frame_tables, "bronze_rows", bronze_rows)

    with pytest.raises(ValueError, match="Could not find column"):
        lake.drain(*ids(range(7)))

    assert lake.rows(BRONZE) == []


def test_the_reason_is_the_same_text_each_time() -> None:
    def fail(first: int, end: int) -> None:
        if first <= 4 < end:
            msg = f"{uuid.uuid4()}.parquet: refused at {time.monotonic_ns()}"
            raise ValueError(msg)

    once, again = (culprits(9, fail, "topic", "error") for _ in range(2))

    assert once == again == {4: "not_storable: ValueError: #.parquet: refused at #"}


def test_a_feed_event_that_cannot_be_stored_stands_as_bytes(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "schema_id", {2}, ValueError("refused"))
    events = EventLayers(lake.catalog, lake.namespace)
    values = [b"\0\0\0\0" + bytes([number]) for number in (9, 9, 2, 9, 1)]
    read = Messages([0] * 5, list(range(5)), [NOON_MS] * 5, [None] * 5, values)

    rows = Rows.joined(list(events.rows_of(read, TOPIC, KnownSchemas())))
    events.commit(Batch(Offsets(), read.following(TOPIC.topic_id), rows))

    stored = lake.table(events.specs["bronze"]).scan().to_arrow().sort_by("kafka_offset").to_pylist()
    assert [row["payload"] for row in stored] == values
    assert [row["schema_id"] for row in stored] == [9, 9, None, 9, 1]
