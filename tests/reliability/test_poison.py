"""Poison between good frames, through a real broker, registry and drain: each frame ends where it belongs, once."""

import random
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from pytest import MonkeyPatch  # noqa: PT013  # a type, beside the module

from k2_assets.drain import drain_loop as drains
from k2_assets.drain import topic_lane as lanes
from k2_assets.lake.lake_resource import Lake
from k2_assets.topic_tables import drained_tables
from k2_core import topics
from k2_core.registry import Registry
from k2_core.settings import Drain, Kafka, Settings
from k2_core.settings import Registry as RegistrySettings
from k2_core.trades import REASONS
from tests.assets.drained import only_once
from tests.assets.frames import a_frame, an_envelope
from tests.assets.own_topic import NEVER_S, OwnTopic, read_all
from tests.reliability.measured import Faults
from tests.reliability.poison import MIB, Ids, Sent, all_poison, odd_but_good, register

pytestmark = [pytest.mark.integration, pytest.mark.reliability("poison")]

CONTROL = b'{"result":null,"id":1}'
Place = tuple[int, int]


@dataclass
class PoisonedTopic(OwnTopic):
    """A topic that holds all poison between good frames, and what is at each place of it."""

    sent: dict[Place, Sent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        with Registry(self.registry_url) as registry:
            self.ids: Ids = register(registry, self.topic_name)

    def settings_of_drain(self) -> Settings:
        return Settings(
            home=self.home,
            kafka=Kafka(bootstrap_servers=self.broker),
            registry=RegistrySettings(url=self.registry_url),
            drain=Drain(commit_interval_s=0.5, quiet_interval_s=1.0, commit_rows=200),
        )

    def send(self, messages: Iterable[Sent], rng: random.Random, stamp_ms: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.broker, "message.max.bytes": topics.MAX_MESSAGE_BYTES})
        for each in messages:
            producer.produce(
                self.topic_name,
                each.value,
                key=rng.choice([None, b"", b"BTCUSDT", b"\xff\0"]),
                partition=rng.randrange(self.partitions),
                timestamp=stamp_ms,
                on_delivery=lambda error, message, each=each: self._place(error, message, each),
            )
            producer.poll(0)
        assert producer.flush(60) == 0

    def _place(self, error: object, message: Message, each: Sent) -> None:
        assert error is None, error
        self.sent[message.partition() or 0, message.offset() or 0] = each

    def rows_of(self, layer: str, *columns: str) -> list[tuple[Any, ...]]:
        table = self.catalog.load_table((self.namespace, self.layers.specs[layer].name))
        rows = table.scan(selected_fields=columns).to_arrow()
        return list(zip(*(rows[name].to_pylist() for name in columns), strict=True))


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> PoisonedTopic:
    return PoisonedTopic(broker, registry, tmp_path / "home")


def shuffled(ids: Ids, rng: random.Random, copies: int) -> list[Sent]:
    """All poison, with good frames, odd ones and replies between it."""
    poison = [each for _ in range(copies) for each in all_poison(ids)]
    odd = list(odd_but_good(10_000_000, ids))
    good = [a_frame(number) for number in range(3 * len(poison))]
    plain = [Sent(an_envelope(payload, seq, schema_id=ids.ours), payload, None) for seq, payload in enumerate(good)]
    replies = [Sent(an_envelope(CONTROL, schema_id=ids.ours), CONTROL, "control") for _ in range(20)]
    messages = [*poison, *odd, *plain, *replies]
    rng.shuffle(messages)
    return messages


def assert_each_stands_where_it_belongs(own_topic: PoisonedTopic, reliability: Faults) -> None:
    bad = {place: each for place, each in own_topic.sent.items() if each.reason in REASONS}
    must_be_rejected = Counter((*place, 0, each.reason, each.payload) for place, each in bad.items())
    must_be_silver = Counter((*place, 0) for place, each in own_topic.sent.items() if each.reason is None)
    origin = ("kafka_partition", "kafka_offset", "frame_index")
    rejected = Counter(own_topic.rows_of("rejected", *origin, "reason", "payload"))
    silver = Counter(own_topic.rows_of("silver", *origin))
    bronze = Counter(own_topic.rows_of("bronze", *origin[:2], "payload"))

    assert rejected - must_be_rejected == Counter(), shown(rejected - must_be_rejected)
    assert must_be_rejected - rejected == Counter(), shown(must_be_rejected - rejected)
    assert silver == must_be_silver
    assert bronze == Counter((*place, each.payload) for place, each in own_topic.sent.items())
    for reason in sorted({each.reason for each in bad.values() if each.reason}):
        number = sum(each.reason == reason for each in bad.values())
        reliability.record(f"poison: {reason}", injected=number, compared=number)


def shown(rows: Counter[tuple[Any, ...]]) -> str:
    return "\n".join(f"{row[:-1]} {row[-1][:80]!r}… ({len(row[-1]):,} bytes)" for row in rows)


def test_the_catalogue_knows_several_of_every_reason(own_topic: PoisonedTopic) -> None:
    found = Counter(each.reason for each in all_poison(own_topic.ids))

    assert set(found) == set(REASONS) - {"parser_failed", "not_storable"}
    assert min(found.values()) >= 5


@pytest.mark.parametrize("seed", [1, 2])
def test_every_frame_ends_where_it_belongs(
    own_topic: PoisonedTopic, reliability: Faults, soak: bool, seed: int
) -> None:
    rng = random.Random(seed)
    own_topic.send(shuffled(own_topic.ids, rng, copies=20 if soak else 1), rng)

    own_topic.drain()

    assert_each_stands_where_it_belongs(own_topic, reliability)


def test_what_is_made_from_bronze_later_is_the_same(
    own_topic: PoisonedTopic, reliability: Faults, monkeypatch: MonkeyPatch
) -> None:
    """The drain ends after bronze alone; the next one makes rejected and silver from bronze's rows."""
    rng = random.Random(3)
    own_topic.send(shuffled(own_topic.ids, rng, copies=1), rng)
    with monkeypatch.context() as patch:
        patch.setattr(drained_tables, "commit_drained", only_once(drained_tables.commit_drained))
        with pytest.raises(OSError, match="the disk is gone"):
            own_topic.drain()
    assert [vector == own_topic.vectors()[0] for vector in own_topic.vectors()] == [True, False, False]

    assert own_topic.drain() == []

    assert_each_stands_where_it_belongs(own_topic, reliability)


def test_a_drain_reads_on_while_poison_arrives(
    own_topic: PoisonedTopic, reliability: Faults, monkeypatch: MonkeyPatch, soak: bool
) -> None:
    """The drain's own loop, with its beat and its waiting; it must never have to begin again."""
    monkeypatch.setattr(drains._Worker, "_wait_out", _fail)
    rng, stop = random.Random(4), threading.Event()
    waves: Sequence[list[Sent]] = [shuffled(own_topic.ids, rng, copies=1) for _ in range(10 if soak else 2)]
    waiting, committed = list(waves), 0

    for lane, settled in drains.drain(Lake(own_topic.settings_of_drain()), [own_topic.venue], "a run", stop):
        if not own_topic.owns(lane):
            continue  # feeds' events of other tests
        committed += settled.batch.bronze.num_rows if settled else 0
        if committed == len(own_topic.sent):
            if not waiting:
                stop.set()
            else:
                own_topic.send(waiting.pop(), rng)
        assert lane.read <= sum(map(len, waves)), "the drain has begun again"

    assert own_topic.vectors()[0] == own_topic.vectors()[1] == own_topic.vectors()[2]
    assert len(own_topic.sent) == sum(map(len, waves))
    assert_each_stands_where_it_belongs(own_topic, reliability)


def test_large_frames_are_committed_before_memory_is_full(
    own_topic: PoisonedTopic, reliability: Faults, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_COMMIT_BYTES", 16 * MIB)
    frames = [a_frame(number, X=f"{number % 10}" * MIB) for number in range(80)]
    messages = [Sent(an_envelope(payload, schema_id=own_topic.ids.ours), payload, None) for payload in frames]
    rng, committed = random.Random(5), []

    with own_topic.lane(commit_rows=500_000, commit_interval_s=NEVER_S) as lane:
        for first in range(0, len(messages), 8):
            own_topic.send(messages[first : first + 8], rng)
            committed += read_all(lane, 8)
        committed += lane.finish()

    sizes = [each.batch.bronze.num_rows for each in committed]
    assert sum(sizes) == len(frames)
    assert max(sizes) <= 16 + 8, "what a lane holds is bounded by its bytes, and by what one more reading brings"
    assert_each_stands_where_it_belongs(own_topic, reliability)


def test_a_message_stamped_beyond_all_dates_stands_like_any_other(
    own_topic: PoisonedTopic, reliability: Faults
) -> None:
    by_producers = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str((1 << 63) - 1)}
    by_producers["retention.ms"] = "-1"  # else those of 1970 may be deleted meanwhile
    topic = ConfigResource(
        ConfigResource.Type.TOPIC,
        own_topic.topic_name,
        incremental_configs=[
            ConfigEntry(*each, incremental_operation=AlterConfigOpType.SET) for each in by_producers.items()
        ],
    )
    for future in own_topic.admin.incremental_alter_configs([topic]).values():
        future.result(timeout=30)
    rng = random.Random(6)

    for stamp in (1, 253_402_300_800_000, 1 << 62, (1 << 63) - 1):
        own_topic.send(shuffled(own_topic.ids, rng, copies=1)[:50], rng, stamp)
    own_topic.drain()

    assert_each_stands_where_it_belongs(own_topic, reliability)


def _fail(_: object, error: Exception) -> None:
    raise AssertionError("the drain waits") from error
