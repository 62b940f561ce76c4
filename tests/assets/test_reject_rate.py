"""The check of how much is rejected: of a day, and of a drain's last minutes, reported at once when it changes."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import polars as pl
import pytest

from k2_assets.drain import drain_report
from k2_assets.drain.drain_report import Reporter
from k2_assets.drain.topic_lane import Committed, Lane
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.daily_partitions import daily
from k2_assets.orchestration.run_tags import PARTITION_TAG
from k2_assets.silver.checks import reject_rate_check
from k2_assets.silver.reject_rate import SAMPLED, LastMinutes, Rejects
from k2_assets.topic_tables.frame_tables import Layers
from k2_core.venues import binance
from tests.assets.drained import SILVER, DrainedLake, at, received
from tests.assets.frames import NOON_MS, TOPIC
from tests.assets.lakes import DAY

MIDNIGHT_MS = NOON_MS + 12 * 3_600_000


@pytest.fixture(name="lake")
def a_drained_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


def rejects(good: int, *reasons: str) -> Rejects:
    rows = [(reason, f"error {place}", "topic", "0", str(place)) for place, reason in enumerate(reasons)]
    return Rejects.of(good, pl.DataFrame(rows, schema=SAMPLED, orient="row"))


@pytest.mark.parametrize(
    ("good", "bad", "passed", "severity"),
    [(1000, 0, True, "warning"), (999, 1, True, "warning"), (997, 3, False, "warning"), (97, 3, False, "error")],
)
def test_share_above_a_thousandth_is_a_warning_and_above_a_hundredth_an_error(
    good: int, bad: int, passed: bool, severity: str
) -> None:
    found = rejects(good, *["wrong_type"] * bad).verdict(f"of {DAY}")
    assert (found.passed, found.severity) == (passed, severity)


def test_the_reasons_are_counted_and_each_has_a_sample() -> None:
    found = rejects(48_199, *["wrong_type"] * 10, "malformed_json", "unknown_symbol").verdict(f"of {DAY}")
    assert found.sentence == (
        "12 of 48,211 rows of 2024-08-09 were rejected (0.025 %): 10 wrong_type, 1 malformed_json, 1 unknown_symbol."
    )
    assert found.samples["reason"].to_list()[:3] == ["malformed_json", "unknown_symbol", "wrong_type"]
    assert found.samples.height == 5
    assert Rejects().verdict(f"of {DAY}").sentence == "0 of 0 rows of 2024-08-09 were rejected."


def test_bad_rows_fail_at_once_and_good_ones_after_them_pass_within_half_a_minute() -> None:
    window = LastMinutes()
    assert window.add(rejects(1000), 0).passed
    assert window.add(rejects(990, *["wrong_type"] * 10), 10).severity == "warning"
    assert not window.add(rejects(1000), 20).passed
    assert not window.add(rejects(1000), 39).passed
    passing = window.add(rejects(1000), 40)
    assert passing.passed
    assert passing.sentence == (
        "10 of 5,000 rows of the last 5 min were rejected (0.2 %): 10 wrong_type; of the last 30 s 0 of 3,000."
    )
    assert window.add(rejects(1000), 311).sentence == "0 of 4,000 rows of the last 5 min were rejected."


class Drain:
    """A drain's reporter on a real lake; the clock is set by hand."""

    def __init__(self, lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(drain_report.clock, "monotonic", lambda: self.now_s)
        self.lake = lake
        layers = Layers(lake.catalog, lake.namespace, binance, "trades")
        reader = SimpleNamespace(topic=TOPIC, lag=lambda _: 0)
        self.lane = cast("Lane", SimpleNamespace(layers=layers, reader=reader))
        self.reporter = Reporter(600)

    def reports(self, *values: bytes, after_s: float = 10) -> list[dg.AssetCheckEvaluation]:
        """What is reported of the rate right after a commit."""
        self.now_s += after_s
        self.reporter.add(self.lane, Committed(self.lake.drain(*values), 0.1))
        events: list[Any] = list(self.reporter.due())
        return [
            each for each in events if isinstance(each, dg.AssetCheckEvaluation) and each.check_name == "reject_rate"
        ]


def good(moment_ms: int = NOON_MS, number: int = 20) -> list[bytes]:
    return [at(moment_ms + n, n + 1) for n in range(number)]


def test_a_drain_reports_at_once_when_too_much_is_rejected_and_when_it_is_well_again(
    lake: DrainedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = Drain(lake, monkeypatch)
    assert {each.passed for each in drain.reports(*good())} == {True}, "the first verdict of a run"
    assert drain.reports(*good()) == []

    [failed] = drain.reports(*good(), at(NOON_MS, 1, p="-1"))
    assert (failed.passed, failed.severity, failed.partition) == (False, dg.AssetCheckSeverity.ERROR, DAY.isoformat())
    assert failed.asset_key.to_user_string() == SILVER.name
    assert failed.description == ("1 of 61 rows of the last 5 min were rejected (1.6 %): 1 price_not_positive.")
    assert "price_not_positive" in str(failed.metadata["sample"].value)

    assert drain.reports(*good()) == []
    assert drain.reports(received(b'{"result":null,"id":1}'), after_s=100) == [], "a control frame is no good row"
    [passed] = drain.reports(*good())
    assert passed.passed
    assert drain.reports(*good(), after_s=600)[0].passed, "with each report of the day"


def test_a_failure_before_midnight_is_over_for_its_day_too(lake: DrainedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    drain = Drain(lake, monkeypatch)
    drain.reports(*good(MIDNIGHT_MS - 1000), at(MIDNIGHT_MS - 1, 99, p="-1"))
    passed = drain.reports(*good(MIDNIGHT_MS), after_s=60)
    assert [(each.passed, each.partition) for each in passed] == [
        (True, DAY.isoformat()),
        (True, (DAY + timedelta(days=1)).isoformat()),
    ]


def test_a_day_is_judged_whole_by_hand(lake: DrainedLake) -> None:
    lake.drain(*good(), *good(MIDNIGHT_MS), received(b'{"result":null,"id":1}'), at(NOON_MS, 7, q="0"), b"no envelope")
    days = daily(DAY)
    check = reject_rate_check(binance, "trades", days)
    silver = dg.AssetSpec(SILVER.name, partitions_def=days)
    reports = Counter[tuple[bool, str]]()
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(
            assets=[silver],
            asset_checks=[check],
            jobs=[dg.define_asset_job("judge", dg.AssetSelection.checks(check))],
            resources={"lake": Lake(lake.settings)},
        ).resolve_job_def("judge")
        for day in (DAY, DAY + timedelta(days=1)):
            run = job.execute_in_process(instance=instance, tags={PARTITION_TAG: day.isoformat()})
            reports.update((each.passed, each.description or "") for each in run.get_asset_check_evaluations())

    assert sorted(reports) == [
        (False, "2 of 22 rows of 2024-08-09 were rejected (9.1 %): 1 not_confluent_avro, 1 quantity_not_positive."),
        (True, "0 of 20 rows of 2024-08-10 were rejected."),
    ]
