"""What a drain reports to Dagster: a materialization for each touched day at most every few minutes, and a check."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import dagster as dg
import polars as pl
import pyarrow as pa
from confluent_kafka import KafkaException

from k2_assets.drain.topic_lane import Committed, Lane
from k2_assets.lake.first_partition import is_day_of_data
from k2_assets.lake.source_files import as_frame
from k2_assets.orchestration.asset_metadata import microseconds, of_partition, topic_key
from k2_assets.orchestration.check_evaluations import Event, evaluation, result
from k2_assets.orchestration.verdict import Verdict
from k2_assets.silver import checks, reject_rate
from k2_assets.silver.reject_rate import SAMPLED, LastMinutes, Rejects
from k2_assets.topic_tables.drained_tables import DrainedTables, Rows
from k2_assets.topic_tables.frame_tables import Layers
from k2_core import clock
from k2_core.logs import logger
from k2_core.venues.routing import Data

log = logger(__name__)

_QUIET_S: Final = 20.0
"""A lane that nothing came for is asked this often, and this soon after the start, whether Kafka has more."""


@dataclass
class _Pending:
    """What one lane committed since its last report."""

    rows: dict[str, Counter[date]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    control_frames: int = 0
    commit_seconds: float = 0.0
    newest_us: int = 0
    lag: int | None = None


@dataclass
class _Judged:
    """What the check found in a day of silver since the run began: a good batch after a bad one does not hide it."""

    rows: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass
class _Rate:
    """How much of a topic was rejected in the last minutes, the last verdict, and the days that it failed for."""

    last_minutes: LastMinutes = field(default_factory=LastMinutes)
    verdict: Verdict | None = None
    failed_days: set[date] = field(default_factory=set)


class Reporter:
    """Collects commits and turns them into Dagster's events, seldom enough to keep the event log small."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lanes: dict[str, Lane] = {}  # by topic, as the three below
        self._pending: dict[str, _Pending] = {}
        self._due_at: dict[str, float] = {}
        self._reported: set[str] = set()
        self._judged: dict[str, dict[date, _Judged]] = {}
        self._rates: dict[str, _Rate] = {}
        self._at_once: list[Event] = []
        self._shown: set[str] = set()  # tables with a report of this run

    def see(self, lane: Lane) -> None:
        """Take note of a lane, which is reported also when nothing comes, as long as Kafka has no more for it."""
        self._lanes[lane.layers.topic] = lane
        self._due_at.setdefault(lane.layers.topic, clock.monotonic() + min(self._interval_s, _QUIET_S))

    def add(self, lane: Lane, committed: Committed) -> None:
        """Take in one commit; the first one of a lane is reported at once."""
        self.see(lane)
        pending = self._pending.setdefault(lane.layers.topic, _Pending())
        if lane.layers.topic not in self._reported:
            self._due_at[lane.layers.topic] = clock.monotonic()
        rows, specs = committed.batch.rows, lane.layers.specs
        for layer, table in rows.by_layer.items():
            counter = pending.rows.setdefault(specs[layer].name, Counter())
            counter.update(_rows_by_day(table, specs[layer].partition_by))
        if isinstance(lane.layers, Layers):
            self._judge(lane.layers, rows, pending)
            self._judge_rejects(lane.layers, rows)
        pending.control_frames += rows.control_frames
        pending.commit_seconds = max(pending.commit_seconds, committed.seconds)
        pending.lag = _lag(lane)  # now: at the last report the consumer has been closed

    def _judge(self, layers: Layers, rows: Rows, pending: _Pending) -> None:
        # Silver's check, on this batch. The first fault of a day is reported at once.
        pending.reasons.update(rows.by_layer["rejected"]["reason"].to_pylist())
        judged = as_frame(rows.by_layer["silver"].select(checks.JUDGED[layers.data]))
        found = faults_by_day(judged, layers.data)
        days = self._judged.setdefault(layers.specs["silver"].name, {})
        for day, count in _rows_by_day(rows.by_layer["silver"], "timestamp").items():
            of_day = days.setdefault(day, _Judged())
            of_day.rows += count
            if day in found and not of_day.faults:
                self._due_at[layers.topic] = clock.monotonic()
            of_day.faults += found.get(day, Counter())
        if judged.height:
            newest_us = judged.select(pl.col("timestamp").to_physical().max()).item()
            pending.newest_us = max(pending.newest_us, newest_us)

    def _judge_rejects(self, layers: Layers, rows: Rows) -> None:
        # When the share of rejected rows becomes too large, or is well again, that is reported at once. So is the first
        # verdict of a run, which does not know what the run before it reported.
        rejected, silver = rows.by_layer["rejected"], layers.specs["silver"].name
        found = Rejects.of(rows.by_layer["silver"].num_rows, as_frame(rejected.select(SAMPLED)))
        if not found.rows:
            return
        rate = self._rates.setdefault(silver, _Rate())
        before, rate.verdict = rate.verdict, rate.last_minutes.add(found, clock.monotonic())
        day = max(_rows_by_day(rows.by_layer["bronze"], layers.specs["bronze"].partition_by))
        if before is None or (before.passed, before.severity) != (rate.verdict.passed, rate.verdict.severity):
            self._at_once += _rejects_check(silver, rate, day)

    def due(self, *, now: bool = False) -> Iterator[Event]:
        """Yield what is due; with ``now``, all that is pending."""
        at_once, self._at_once = self._at_once, []
        yield from at_once
        for topic, lane in list(self._lanes.items()):
            if not now and clock.monotonic() < self._due_at[topic]:
                continue
            news = self._pending.pop(topic, None)
            if news is None:
                self._due_at[topic] = clock.monotonic() + min(self._interval_s, _QUIET_S)
                if now or _lag(lane) != 0:
                    continue
                news = _Pending(lag=0)
            self._due_at[topic] = clock.monotonic() + self._interval_s
            self._reported.add(topic)
            for event in self._materializations(lane, news):
                yield event
                # Dagster shows a result only while it is newer than the day's last materialization. It keeps only the
                # last result of each run and day, so that one counts what was found in the whole run.
                judged = self._judged.get(event.asset_key.to_user_string(), {})
                if event.partition is not None and (day := date.fromisoformat(event.partition)) in judged:
                    yield _evaluation(event.asset_key, day, judged[day])
            specs = lane.layers.specs
            silver, days = specs["silver"].name if "silver" in specs else "", news.rows.get(specs["bronze"].name)
            if silver in self._rates and days:
                yield from _rejects_check(silver, self._rates[silver], max(days))

    def _materializations(self, lane: Lane, news: _Pending) -> Iterator[dg.AssetMaterialization]:
        layers, topic = lane.layers, lane.reader.topic
        of_kafka: dict[str, Any] = {
            "offsets": {
                f"{topic.name}-{partition}": offset
                for (topic_id, partition), offset in layers.drained.items()
                if topic_id == topic.topic_id
            },
            "lag (messages)": "Kafka did not answer" if news.lag is None else news.lag,
        }
        bronze, read = layers.specs["bronze"].name, sum(news.rows.get(layers.specs["bronze"].name, Counter()).values())
        yield dg.AssetMaterialization(topic_key(topic.name), metadata={"messages read": read, **of_kafka})
        of_commits = {"slowest commit (s)": round(news.commit_seconds, 3), "control frames": news.control_frames}
        of_tables = {bronze: of_kafka | of_commits}
        if isinstance(layers, Layers):
            newest: dict[str, Any] = {}
            if news.newest_us:
                one, behind_us = layers.data.removesuffix("s"), clock.now_us() - news.newest_us
                newest[f"newest {one}"] = microseconds(news.newest_us)
                newest[f"behind the newest {one} (s)"] = round(behind_us / clock.US_PER_SECOND, 3)
            of_tables[layers.specs["silver"].name] = newest
            of_tables[layers.specs["rejected"].name] = {"rejected by reason": dict(news.reasons)}
        for layer, spec in layers.specs.items():
            days = Counter({day: rows for day, rows in news.rows.get(spec.name, {}).items() if is_day_of_data(day)})
            if not days and (layer != "rejected" or spec.name not in self._shown):
                # What got no rows has all that there was: its newest day is reported, of rejected once in a run.
                newest_day = _newest_day(layers, layer)
                if layer == "rejected" and newest_day is None:  # nothing was ever rejected
                    newest_day = _newest_day(layers, "bronze")
                if newest_day is not None:
                    days[newest_day] = 0
            for day, count in sorted(days.items()):
                self._shown.add(spec.name)
                metadata = {"rows": count, **_partition(layers, layer, day), **of_tables[spec.name]}
                yield dg.AssetMaterialization(spec.name, partition=day.isoformat(), metadata=metadata)


def _evaluation(silver: dg.AssetKey, day: date, judged: _Judged) -> dg.AssetCheckEvaluation:
    faults = {f"{column}: {check}": count for (column, check), count in sorted(judged.faults.items())}
    return dg.AssetCheckEvaluation(
        asset_key=silver,
        check_name=checks.NAME,
        partition=day.isoformat(),
        passed=not faults,
        description=checks.sentence(judged.rows, judged.faults.total(), f"of {day} in this run of the drain"),
        metadata={
            "rows judged in this run": dg.MetadataValue.int(judged.rows),
            "faults": dg.MetadataValue.json(faults),
        },
    )


def _newest_day(layers: DrainedTables, layer: str) -> date | None:
    try:
        newest = max((each.day for each in layers.files(layer)), default=None)
    except Exception:  # as of a lag
        log.exception("newest day not known", table=layers.specs[layer].name)
        return None
    return newest if newest is not None and is_day_of_data(newest) else None


def _partition(layers: DrainedTables, layer: str, day: date) -> dict[str, Any]:
    try:
        return of_partition(layers.files(layer, day), layers.specs[layer])
    except Exception:  # as of a lag
        log.exception("rows of the day not known", table=layers.specs[layer].name)
        return {}


def _lag(lane: Lane) -> int | None:
    """Return how many messages Kafka has beyond what is stored; None when it does not answer."""
    try:
        return lane.reader.lag(lane.layers.drained)
    except (KafkaException, RuntimeError) as error:  # a report is no reason to end a run that would wait for Kafka
        log.warning("lag not known", topic=lane.layers.topic, error=str(error))
        return None


def _rejects_check(table: str, rate: _Rate, day: date) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the last verdict for a day; once it passes again, also for the days before for which it failed."""
    assert rate.verdict is not None  # noqa: S101  # of a commit
    days = {day} if not rate.verdict.passed else {day, *rate.failed_days}
    rate.failed_days = set() if rate.verdict.passed else rate.failed_days | {day}
    key = dg.AssetCheckKey(dg.AssetKey(table), reject_rate.NAME)
    for each in sorted(filter(is_day_of_data, days)):
        yield evaluation(key, result(rate.verdict), each, clock.now_s())


def faults_by_day(rows: pl.DataFrame, data: Data) -> dict[date, Counter[tuple[str, str]]]:
    """Judge rows of many days at once, and each day alone only when something is wrong, which is rare."""
    if checks.faults(rows, data).is_empty():
        return {}
    by_day = rows.group_by(pl.col("timestamp").dt.date().alias("day"))
    return {
        day: Counter({(column, check): count for column, check, count, _ in checks.faults(of_day, data).iter_rows()})
        for (day,), of_day in by_day
    }


def _rows_by_day(rows: pa.Table, time_column: str) -> dict[date, int]:
    counts = rows[time_column].cast(pa.date32()).value_counts()
    return {each["values"]: each["counts"] for each in counts.to_pylist()}
