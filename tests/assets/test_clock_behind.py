"""Trades that were rejected only because our clock was behind: accepted by command, and by every later rebuild."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2_assets.decode.clock_behind import Span
from k2_assets.silver.rejected_commands import rejected
from k2_assets.silver.reprocess_rejected import Found, Reprocess
from k2_assets.topic_tables import drained_tables, frame_tables
from k2_core import clock
from k2_core.venues import binance
from tests.assets.drained import REJECTED, SILVER, DrainedLake, KnownSchemas, received
from tests.assets.frames import NOON_MS, a_frame
from tests.assets.lakes import DAY

HOUR_MS = 3_600_000
NEXT_DAY = date(2024, 8, 10)
BEHIND = 14 * HOUR_MS  # from the day on which they happened to the one on which we thought we received them


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


def drain_with_a_late_clock(lake: DrainedLake) -> None:
    """Trades 1 to 4 happened an hour to fourteen after what our clock said; 5 in a year that has not come yet."""
    times = [NOON_MS, NOON_MS + HOUR_MS, NOON_MS + HOUR_MS + 1, NOON_MS + BEHIND, NOON_MS + 10**13 // 2]
    values = [received(a_frame(number, T=at, E=at), NOON_MS) for number, at in enumerate(times, 1)]
    lake.drain(received(a_frame(0)), *values)


def job(lake: DrainedLake, ahead_ms: int = 24 * HOUR_MS) -> Reprocess:
    noon_us, day_us = NOON_MS * 1_000, 24 * HOUR_MS * 1_000
    span = Span(noon_us - day_us // 2, noon_us + day_us // 2, clock.now_us(), ahead_ms * 1_000)
    return Reprocess(lake.catalog, lake.namespace, binance, "trades", span)


def test_trades_whose_time_has_come_are_accepted_and_stay_so(lake: DrainedLake) -> None:
    drain_with_a_late_clock(lake)
    assert lake.ids() == [0, 1]

    found = job(lake).find()
    assert found == Found(3, 3, (DAY, NEXT_DAY))
    assert lake.ids() == [0, 1]
    for _ in range(2):
        assert [day for day, _ in job(lake).run(found.days, KnownSchemas())] == [DAY, NEXT_DAY]

        assert lake.ids() == [0, 1, 2, 3, 4]
        assert [row["reason"] for row in lake.rows(REJECTED)] == ["timestamp_in_future"]
    assert job(lake).find().rows == 0
    before = lake.picture(SILVER), lake.picture(REJECTED)
    for day in (DAY, NEXT_DAY):
        assert lake.rebuild(day).rows_written == 0
    assert (lake.picture(SILVER), lake.picture(REJECTED)) == before


def test_only_what_lies_within_the_given_lag_is_accepted(lake: DrainedLake) -> None:
    drain_with_a_late_clock(lake)
    small = job(lake, HOUR_MS)

    list(small.run(small.find().days, KnownSchemas()))

    assert lake.ids() == [0, 1, 2]


def test_a_drain_that_catches_up_later_gives_the_same_rows(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    list(job(lake).run((), KnownSchemas()))
    original, calls = drained_tables.commit_drained, iter([True])

    def only_bronze(*arguments: object) -> object:
        if next(calls, False):
            return original(*arguments)  # type: ignore[arg-type]
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(drained_tables, "commit_drained", only_bronze)
        with pytest.raises(OSError, match="the disk is gone"):
            drain_with_a_late_clock(lake)

    frame_tables.Layers(lake.catalog, lake.namespace, binance).catch_up(KnownSchemas(), lambda _: None)

    assert lake.ids() == [0, 1, 2, 3, 4]


def test_the_command_says_what_it_will_do_and_refuses_a_home_without_a_lake(
    lake: DrainedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain_with_a_late_clock(lake)
    day = ["--from", f"{DAY}", "--to", f"{DAY}", "--dry-run"]
    monkeypatch.setenv("K2_HOME", str(lake.home))

    said = CliRunner().invoke(rejected, ["reprocess", "binance", *day])

    assert said.exit_code == 0, said.output
    assert "binance trades: 3 rows of 3 frames" in said.output
    assert f"days to rebuild: {DAY}, {NEXT_DAY}" in said.output
    assert lake.ids() == [0, 1]

    monkeypatch.setenv("K2_HOME", str(lake.home / "mistyped"))
    refused = CliRunner().invoke(rejected, ["reprocess", "binance", *day])

    assert "there is no lake in" in str(refused.exception)
    assert not (lake.home / "mistyped").exists()
