"""A rebuild of a day of silver: from bronze's rows, with the current parser, beside a drain."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.expressions import EqualTo, In

from k2_assets.lake import rewrites
from k2_assets.lake.rebuilt_days import Taken, marks
from k2_assets.silver import existing_rows
from k2_assets.topic_tables import frames_of_day
from k2_core.errors import DoubledRows, MalformedFrame
from k2_core.lake.tables import GOLD_TRADES
from k2_core.trades import BadTrade, VenueTrade
from k2_core.venues import binance
from tests.assets.drained import BRONZE, REJECTED, SILVER, DrainedLake, at, received
from tests.assets.frames import NOON_MS, a_frame
from tests.assets.lakes import DAY
from tests.venue_builder import a_venue

HOUR_MS = 3_600_000
MIDNIGHT_MS = NOON_MS + 12 * HOUR_MS
NEXT = DAY + timedelta(days=1)
CONTROL = b'{"result":null,"id":1}'
CUT_OFF = b'{"stream":'


@pytest.fixture(name="lake")
def a_drained_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two frames a piece, so that each test reads and compares in many."""
    for module in (frames_of_day, existing_rows):
        monkeypatch.setattr(module, "PIECE_ROWS", 2)


def stands(lake: DrainedLake) -> tuple[Any, ...]:
    return lake.picture(BRONZE), lake.picture(REJECTED), lake.picture(SILVER)


def locations(lake: DrainedLake) -> list[str]:
    return [lake.metadata_location(spec) for spec in (BRONZE, REJECTED, SILVER)]


def fill(lake: DrainedLake) -> None:
    """Two days around midnight, three partitions, a topic that was created again; good, bad and control frames."""
    lake.drain(at(MIDNIGHT_MS - 5_000, 1), at(MIDNIGHT_MS - 1, 2), at(MIDNIGHT_MS, 3), at(MIDNIGHT_MS + 1, 4))
    lake.drain(at(NOON_MS, 11), received(CUT_OFF), received(CONTROL), b"no envelope", partition=1)
    lake.drain(at(NOON_MS + 1, 12, p="-1"), at(NOON_MS + 2, 13), at(MIDNIGHT_MS + HOUR_MS, 14, q="0"), partition=1)
    lake.drain(at(NOON_MS, 11), at(NOON_MS, 21), partition=2)
    lake.drain(at(NOON_MS, 21), at(MIDNIGHT_MS - 2, 22), topic_id="made-again")


def test_a_deleted_day_comes_back_identical_and_again_changes_nothing(lake: DrainedLake) -> None:
    fill(lake)
    before = stands(lake)
    lake.table(SILVER).delete("timestamp >= '2024-08-09T00:00:00+00:00' and timestamp < '2024-08-10T00:00:00+00:00'")
    assert lake.ids() == [3, 4]

    outcome = lake.rebuild()

    assert stands(lake) == before
    assert (outcome.rows_written, outcome.rows_replaced) == (8, 0)
    assert (outcome.rejected_written, outcome.rejected_replaced) == (0, 0)
    assert outcome.days_changed == (DAY,)
    assert set(marks(lake.table(SILVER))) == {"2024-08-09"}
    after = locations(lake)
    lake.rebuild()
    assert locations(lake) == after


def test_a_day_that_stands_as_it_should_commits_nothing(lake: DrainedLake) -> None:
    fill(lake)
    before = locations(lake)

    outcomes = [lake.rebuild(DAY + timedelta(days=days)) for days in (-30, -1, 0, 1, 2, 30)]

    assert locations(lake) == before
    assert [each.rows_written + each.rejected_written for each in outcomes] == [0] * 6


def test_wrong_doubled_and_foreign_rows_give_way(lake: DrainedLake) -> None:
    fill(lake)
    before = stands(lake)
    rows = sorted(lake.rows(SILVER), key=lambda row: row["timestamp"])
    lake.append(SILVER, [rows[0], rows[0] | {"frame_index": 7}, rows[1] | {"kafka_offset": 999_999}])
    lake.append(REJECTED, lake.rows(REJECTED)[:1])
    lake.table(SILVER).delete(EqualTo("source_sequence", 22))
    lake.append(SILVER, [row | {"quantity": row["quantity"] * 2} for row in rows if row["source_sequence"] == 22])

    outcome = lake.rebuild()

    stray = [row for row in lake.rows(SILVER) if row["kafka_offset"] == 999_999]
    assert len(stray) == outcome.frames_without_bronze == 1  # no bronze speaks against it
    lake.table(SILVER).delete(EqualTo("kafka_offset", 999_999))
    assert stands(lake) == before


def test_a_row_with_a_wrong_time_of_ingestion_gives_way(lake: DrainedLake) -> None:
    fill(lake)
    before = stands(lake)
    wrong = [row | {"ingestion_timestamp": row["timestamp"] - timedelta(days=3)} for row in lake.rows(SILVER)]
    lake.table(SILVER).delete(In("source_sequence", {2, 13}))
    lake.append(SILVER, [row for row in wrong if row["source_sequence"] in {2, 13}])

    outcome = lake.rebuild()

    assert stands(lake) == before
    assert (outcome.rows_written, outcome.rows_replaced) == (2, 2)


def test_rows_whose_frame_bronze_no_longer_has_stay(lake: DrainedLake) -> None:
    fill(lake)
    before = lake.picture(SILVER), lake.picture(REJECTED)
    lake.table(BRONZE).delete(EqualTo("kafka_partition", 1))

    outcome = lake.rebuild()

    assert (lake.picture(SILVER), lake.picture(REJECTED)) == before
    assert outcome.frames_without_bronze == 2


def test_what_a_drain_appends_meanwhile_stays(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake)
    lake.table(SILVER).delete(EqualTo("source_sequence", 1))
    original, appended = rewrites._try_replace, []

    def drained_in_between(*arguments: Any) -> bool:
        if len(appended) < 3:
            lake.drain(at(NOON_MS + 7, 100 + len(appended)), received(CUT_OFF))
            appended.append(100 + len(appended))
        return original(*arguments)

    monkeypatch.setattr(rewrites, "_try_replace", drained_in_between)
    lake.rebuild()

    assert len(appended) == 3  # the replacement was overtaken, and tried again
    assert lake.ids() == [1, 2, 3, 4, 11, 11, 13, 21, 21, 22, *appended]
    assert len(lake.rows(REJECTED)) == 4 + len(appended)
    once = lake.frames(SILVER) + lake.frames(REJECTED)
    assert set(once.values()) == {1}


def test_bronze_above_silvers_vector_is_left_to_the_drain(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a drain was killed between its commits of bronze and of silver."""
    lake.drain(at(NOON_MS, 1))
    monkeypatch.setattr("k2_assets.topic_tables.drained_tables.reach", _stop_after_bronze)
    with pytest.raises(KeyboardInterrupt):
        lake.drain(at(NOON_MS, 2))
    before = locations(lake)

    outcome = lake.rebuild()

    assert outcome.frames_read == 1
    assert locations(lake) == before


def _stop_after_bronze(point: str) -> None:
    if point == f"{BRONZE.name}.acknowledged":
        raise KeyboardInterrupt


def parse_generously(payload: bytes) -> Any:
    """A parser that knows what the first one did not: cut-off frames are trade 77 of the moment after noon."""
    if payload == CUT_OFF:
        return [VenueTrade("BTCUSDT", "77", 77, "5", "5", (NOON_MS + 1) * 1000, None, "BUY")]
    return binance.parse(payload)


def parse_strictly(payload: bytes) -> Any:
    """A parser that refuses trade 11."""
    found = binance.parse(payload)
    if found and found[0].sequence == 11:
        raise MalformedFrame("unknown_event", "eleven")
    return found


def test_a_mended_parser_turns_rejected_frames_good_wherever_they_were_ingested(lake: DrainedLake) -> None:
    fill(lake)
    lake.drain(received(CUT_OFF, MIDNIGHT_MS + 30 * HOUR_MS))

    outcome = lake.rebuild(venue=a_venue(parse=parse_generously))

    assert [n for n in lake.ids() if n == 77] == [77, 77]
    assert CUT_OFF not in [row["payload"] for row in lake.rows(REJECTED)]
    assert (outcome.rows_written, outcome.rejected_replaced) == (2, 2)
    assert outcome.days_changed == (DAY,)
    assert_every_frame_stands_once(lake)

    back = lake.rebuild()  # and back again
    assert (back.rows_replaced, back.rejected_written) == (2, 2)
    assert 77 not in lake.ids()
    assert_every_frame_stands_once(lake)


def test_frames_that_turn_good_for_another_day_stand_in_that_day_at_once(lake: DrainedLake) -> None:
    fill(lake)

    outcome = lake.rebuild(DAY - timedelta(days=300), a_venue(parse=parse_generously))

    assert outcome.days_changed == (DAY,)
    assert 77 in lake.ids()
    assert_every_frame_stands_once(lake)


def test_a_stricter_parser_turns_good_frames_bad(lake: DrainedLake) -> None:
    fill(lake)

    outcome = lake.rebuild(venue=a_venue(parse=parse_strictly))

    assert 11 not in lake.ids()
    assert [row["error"] for row in lake.rows(REJECTED)].count("eleven") == 2
    assert (outcome.rows_replaced, outcome.rejected_written, outcome.rejected_replaced) == (2, 2, 0)
    assert_every_frame_stands_once(lake)


def test_a_parser_that_reads_other_times_moves_trades_between_days(lake: DrainedLake) -> None:
    fill(lake)
    earlier = a_venue(parse=parse_eleven_hours_earlier)

    outcome = lake.rebuild(NEXT, earlier)  # trades of the next day's first hours happened today

    assert outcome.days_changed == (DAY, NEXT)
    assert per_day(lake) == {DAY: 10}
    assert_every_frame_stands_once(lake)

    lake.rebuild(venue=earlier)
    assert per_day(lake) == {DAY: 10}
    assert_every_frame_stands_once(lake)

    lake.rebuild()  # the first parser again: bronze gives these frames to the next day, silver's rows to this one
    assert per_day(lake) == {DAY: 8, NEXT: 2}
    assert_every_frame_stands_once(lake)


def parse_eleven_hours_earlier(payload: bytes) -> Any:
    found = binance.parse(payload)
    return found and [_earlier(trade) for trade in found]


def _earlier(trade: Any) -> Any:
    if not isinstance(trade, VenueTrade):
        return trade
    fields = {name: getattr(trade, name) for name in trade.__struct_fields__}
    return VenueTrade(**fields | {"event_us": trade.event_us - 11 * HOUR_MS * 1000})


def per_day(lake: DrainedLake) -> Counter[date]:
    return Counter(row["timestamp"].date() for row in lake.rows(SILVER))


def assert_every_frame_stands_once(lake: DrainedLake) -> None:
    """Every frame but control frames is in silver or rejected, once."""
    control = {
        (r["topic_id"], r["kafka_partition"], r["kafka_offset"]) for r in lake.rows(BRONZE) if r["payload"] == CONTROL
    }
    wanted = lake.frames(BRONZE)
    for place in control:
        del wanted[place]
    assert lake.frames(SILVER) + lake.frames(REJECTED) == wanted


def test_a_message_that_stands_twice_in_bronze_makes_nothing(lake: DrainedLake) -> None:
    fill(lake)
    lake.append(BRONZE, lake.rows(BRONZE)[:2])
    lake.table(SILVER).delete(EqualTo("source_sequence", 1))
    before = locations(lake)

    with pytest.raises(DoubledRows, match="holds 2 messages twice"):
        lake.rebuild()

    assert locations(lake) == before


def test_marks_that_gold_has_taken_in_are_dropped(lake: DrainedLake) -> None:
    fill(lake)
    for day, number in ((DAY, 1), (NEXT, 3)):
        lake.table(SILVER).delete(EqualTo("source_sequence", number))
        lake.rebuild(day)
    assert set(marks(lake.table(SILVER))) == {"2024-08-09", "2024-08-10"}
    assert Taken.of(lake.table(GOLD_TRADES)).behind(lake.table(SILVER)) == {DAY, NEXT}

    lake.trades_refresh(DAY).take_in_news()
    assert Taken.of(lake.table(GOLD_TRADES)).behind(lake.table(SILVER)) == {NEXT}
    lake.table(SILVER).delete(EqualTo("source_sequence", 4))
    lake.rebuild(NEXT)

    assert set(marks(lake.table(SILVER))) == {"2024-08-10"}
    lake.trades_refresh(NEXT).take_in_news()
    assert Taken.of(lake.table(GOLD_TRADES)).behind(lake.table(SILVER)) == set()
    lake.trades_refresh(DAY).take_in_news()  # the ids of the next day show that those of this one begin again
    assert lake.trades_refresh(DAY).take_in_news().rows_read == 0


def test_a_frame_is_refused_for_the_same_reason_again(lake: DrainedLake) -> None:
    lake.drain(b"no envelope", received(CUT_OFF), received(a_frame(1, p="x")), received(a_frame(2, T=None)))
    before = lake.picture(REJECTED)
    lake.table(REJECTED).delete(EqualTo("kafka_partition", 0))

    lake.rebuild()

    assert lake.picture(REJECTED) == before


@pytest.mark.parametrize("moment_ms", [1_893_456_000_000, 1_723_161_255, 0])  # 2030; seconds for milliseconds; 1970
def test_a_frame_with_a_time_of_no_day_comes_back_with_the_day_it_was_received_on(
    lake: DrainedLake, moment_ms: int
) -> None:
    lake.drain(received(a_frame(1, T=moment_ms)), received(a_frame(2)))
    lake.drain(received(a_frame(3, T=moment_ms), NOON_MS + 24 * HOUR_MS))
    assert {row["kafka_offset"] for row in lake.rows(REJECTED)} == {0, 2}
    before = lake.picture(REJECTED)
    lake.table(REJECTED).delete(EqualTo("kafka_partition", 0))

    assert lake.rebuild().rejected_written == 1
    assert [row["kafka_offset"] for row in lake.rows(REJECTED)] == [0]
    assert lake.rebuild(NEXT).rejected_written == 1
    assert lake.picture(REJECTED) == before
    assert lake.ids() == [2]


def test_a_crowd_of_bad_items_is_rebuilt_as_it_was(lake: DrainedLake) -> None:
    bad = BadTrade("wrong_type", "no trade at all", NOON_MS * 1000)
    crowd = a_venue(parse=lambda payload: [bad] * 70 if len(payload) > 4000 else binance.parse(payload))
    lake.drain(received(b"x" * 4001), at(NOON_MS, 1), venue=crowd)
    before = stands(lake)
    lake.table(REJECTED).delete(EqualTo("kafka_partition", 0))

    lake.rebuild(venue=crowd)

    assert stands(lake) == before
    assert sorted(len(row["payload"]) for row in lake.rows(REJECTED)) == [0] * 69 + [4001]
