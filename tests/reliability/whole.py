"""The whole platform under load, for tests that kill its parts: who drains, which runs there were, what stands."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import fastavro
import psutil
from confluent_kafka import Consumer, TopicPartition

from k2_assets.kafka.topic_reader import describe_topic
from k2_assets.kept_runs.heartbeat import READING, WAITING, Beat, read_beat
from k2_assets.refine.refine_loop import REFINING
from k2_core import topics
from k2_core.lake.catalog import open_catalog
from k2_stack import stack_state
from tests.integration.whole_platform import Platform, eventually
from tests.reliability.measured import Faults

TOPIC = topics.raw_topic("crypto", "trades", "binance")
DRAIN = "main_drain"
WORKS = {READING, WAITING, REFINING}
Origin = tuple[str, int, int, int]
Key = tuple[str, str, str]


def now_s() -> float:
    """Return the time that beats and runs are stamped with."""
    return time.time()  # noqa: TID251  # measured against the platform's own stamps


@dataclass
class InKafka:
    """What a plain consumer reads from a topic, from its oldest message to its end."""

    messages: Counter[Origin] = field(default_factory=Counter)
    trades: Counter[Origin] = field(default_factory=Counter)


class WholePlatform(Platform):
    """A platform whose inside a test looks at while it breaks parts of it."""

    @contextmanager
    def dagster(self) -> Iterator[dg.DagsterInstance]:
        """Open the platform's Dagster instance."""
        with dg.DagsterInstance.from_config(str(self.home / "dagster")) as instance:
            yield instance

    def is_ready(self, part: str) -> bool:
        """Tell whether the supervisor calls a part ready."""
        now = stack_state.read(self.settings)
        found = now and now.part(part)
        return bool(found and found.state == stack_state.READY and found.pid)

    def beat(self, name: str = "main") -> Beat | None:
        """Return the last heartbeat of the drain, or of ``refine``."""
        return read_beat(self.home / "run" / f"{name}.db", name)

    def working_drain(self) -> Beat:
        """Wait until a drain works, and return its beat."""
        return self.working("main")

    def working(self, name: str) -> Beat:
        """Wait until a kept run works, and return its heartbeat."""

        def works() -> bool:
            beat = self.beat(name)
            return beat is not None and beat.phase in WORKS and beat.process.is_running()

        eventually(works, lambda: self.beat(name))
        beat = self.beat(name)
        assert beat
        return beat

    def replaced(self, old: Beat) -> Beat:
        """Wait until another run than ``old`` works in its place, and return its first working heartbeat."""

        def works() -> bool:
            beat = self.beat(old.name)
            return beat is not None and beat.pid != old.pid and beat.phase in WORKS

        eventually(works, lambda: self.beat(old.name))
        beat = self.beat(old.name)
        assert beat
        return beat

    def rows_in(self, table: str) -> int:
        """Return how many rows a table has now."""
        rows: int = self.status()["tables"][table]
        return rows

    def runs(self, job: str) -> list[dg.RunRecord]:
        """Return all runs of a job, oldest first."""
        with self.dagster() as instance:
            return list(instance.get_run_records(dg.RunsFilter(job_name=job), ascending=True))

    def run(self, run_id: str) -> dg.RunRecord:
        """Return one run."""
        with self.dagster() as instance:
            found = instance.get_run_record_by_id(run_id)
        assert found
        return found

    def ended(self, run_id: str) -> dg.RunRecord:
        """Wait until a run is over, and return it."""
        eventually(lambda: self.run(run_id).dagster_run.is_finished, lambda: self.run(run_id))
        return self.run(run_id)

    def assert_never_two_drains(self) -> None:
        """No run of the drain began to work before the one before it was over."""
        runs = [run for run in self.runs(DRAIN) if run.start_time is not None]
        for one, following in pairwise(sorted(runs, key=lambda run: run.start_time or 0.0)):
            assert one.end_time is not None, one
            assert one.end_time <= (following.start_time or 0.0), (one, following)

    def stop_venue(self) -> None:
        """Freeze the simulator: what was sent stays, nothing more comes."""
        os.kill(self.pid("simulator"), signal.SIGSTOP)

    def let_venue_go_on(self) -> None:
        """Undo :meth:`stop_venue`."""
        os.kill(self.pid("simulator"), signal.SIGCONT)

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Return columns of a table, row by row."""
        loaded = open_catalog(self.settings).load_table(("market_data", table))
        found = loaded.scan(selected_fields=columns).to_arrow()
        return list(zip(*(found[name].to_pylist() for name in columns), strict=True))

    def origins(self, table: str, *index: str) -> Counter[Origin]:
        """Count the rows of a drained table by (topic id, partition, offset, frame index)."""
        rows = self.rows(table, "topic_id", "kafka_partition", "kafka_offset", *index)
        return Counter((*row[:3], row[3] if index else 0) for row in rows)

    def in_kafka(self) -> InKafka:
        """Read the venue's topic with a plain consumer, and say which messages are trades by a reader not our own."""
        address = self.settings.bootstrap_servers
        consumer = Consumer({"bootstrap.servers": address, "group.id": "a-plain-reader", "enable.auto.commit": False})
        schema = fastavro.parse_schema(json.loads(topics.raw_frame_schema()))
        topic_id = describe_topic(address, TOPIC).topic_id
        found = InKafka()
        try:
            for partition, end in _ends(consumer).items():
                for offset, value in _read(consumer, partition, end):
                    origin = (topic_id, partition, offset, 0)
                    found.messages[origin] += 1
                    frame = fastavro.schemaless_reader(BytesIO(value[5:]), schema, None)
                    found.trades[origin] += b'"e":"trade"' in frame["payload"]
        finally:
            consumer.close()
        found.trades += Counter()  # drops what is no trade
        return found

    def await_drained(self) -> None:
        """Wait until silver lags no more and gold holds each of its trades; the venue must have been stopped."""
        last: list[object] = []

        def drained() -> bool:
            lag = self.status()["lag"]
            keys = {row[0] for row in self.rows("silver_binance_trades", "message_id")}
            gold = {row[0] for row in self.rows("gold_crypto_trades", "message_id")}
            last[:] = [lag, len(keys), len(gold)]
            return bool(lag) and sum(lag.values()) == 0 and keys == gold

        eventually(drained, lambda: last)


@dataclass(frozen=True)
class Compared:
    """How what stands differs from what Kafka holds."""

    rows: int
    lost: int
    doubled: int


def compare_with_kafka(platform: WholePlatform) -> Compared:
    """Compare multisets: bronze with all messages, silver and rejected with all trades, gold's keys with silver's."""
    kafka = platform.in_kafka()
    bronze = platform.origins("bronze_binance_trades")
    refined = platform.origins("silver_binance_trades", "frame_index")
    refined += platform.origins("silver_binance_rejected", "frame_index")
    key = ("exchange", "symbol", "trade_id")
    wanted: Counter[Key] = Counter(set(platform.rows("silver_binance_trades", *key)))
    gold: Counter[Key] = Counter(platform.rows("gold_crypto_trades", *key))
    lost = (kafka.messages - bronze).total() + (kafka.trades - refined).total() + (wanted - gold).total()
    doubled = (bronze - kafka.messages).total() + (refined - kafka.trades).total() + (gold - wanted).total()
    return Compared(kafka.messages.total() + kafka.trades.total() + wanted.total(), lost, doubled)


def kill_session(pid: int) -> None:
    """Kill a process and all of its session at once, as a machine out of memory might."""
    members = [process for process in psutil.process_iter() if _session(process.pid) == pid]
    for process in members:
        with_no_mercy(process.pid)


def assert_nothing_lost_or_doubled(platform: WholePlatform, fault: str, reliability: Faults) -> None:
    """Freeze the venue, wait for the drain, and hold the lake against what Kafka holds."""
    platform.stop_venue()
    try:
        platform.await_drained()
        found = compare_with_kafka(platform)
    finally:
        platform.let_venue_go_on()
    reliability.record(fault, injected=0, compared=found.rows, lost=found.lost, doubled=found.doubled)
    assert found.rows > 0
    assert (found.lost, found.doubled) == (0, 0)
    platform.assert_never_two_drains()


def with_no_mercy(pid: int) -> None:
    """Send SIGKILL; a process that is gone is what was wanted."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def a_whole_platform(home: Path, ports: Any, **settings: str) -> WholePlatform:
    """Make a platform of quick commits."""
    return WholePlatform(home, ports, **{"K2_DRAIN__COMMIT_INTERVAL_S": "2", **settings})


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _ends(consumer: Consumer) -> dict[int, int]:
    partitions = consumer.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
    ends = {}
    for partition in partitions:
        first, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=30)
        assert first == 0
        ends[partition] = end
    return ends


def _read(consumer: Consumer, partition: int, end: int) -> Iterator[tuple[int, bytes]]:
    consumer.assign([TopicPartition(TOPIC, partition, 0)])
    following = 0
    while following < end:
        for message in consumer.consume(10_000, timeout=10):
            assert message.error() is None, message.error()
            offset, value = message.offset(), message.value()
            assert offset is not None
            assert value is not None
            if offset < end:
                yield offset, value
            following = offset + 1


def until(holds: Callable[[], bool], state_of: Callable[[], object]) -> float:
    """Wait until something holds and return when that was seen."""
    eventually(holds, state_of)
    return now_s()
