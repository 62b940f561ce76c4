"""Ids of schemas, good and bad, against a real registry."""

import json
import random
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from k2_assets.kafka import schema_lookup
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_core.registry import Registry

UNKNOWN = range(1 << 20, 1 << 31)  # nobody registers as many


class CountingRegistry(Registry):
    """The registry, and which ids it was asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[int] = []

    def schema(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        return super().schema(schema_id)


@pytest.fixture
def client(registry: str) -> Iterator[CountingRegistry]:
    with CountingRegistry(registry) as client:
        yield client


def named(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + b"payload"


def a_schema(name: str) -> str:
    return json.dumps({"type": "record", "name": name, "fields": [{"name": "a", "type": "long"}]})


def test_odd_ids_are_unknown_and_no_failure(client: CountingRegistry) -> None:
    odd = [named(number) for number in (0, 123_456, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)]

    found = SchemaLookup(client).of([*odd, b"", b"\0\0", b"{}..."])

    assert {schema.text for schema in found.values()} == {None}
    assert len(found) == len(odd)


def test_a_good_id_is_asked_for_once(client: CountingRegistry) -> None:
    good = client.register("lookup-once-value", a_schema("Once"))
    lookup = SchemaLookup(client)

    first = lookup.of([named(good)])
    client.close()  # whoever asks again gets an error

    assert lookup.of([named(good)]) == first
    assert client.asked == [good]


def test_an_id_that_was_unknown_is_known_as_soon_as_it_is_given(client: CountingRegistry) -> None:
    lookup = SchemaLookup(client)
    coming = client.register("lookup-before-value", a_schema("Before")) + 1
    assert lookup.of([named(coming)])[coming].text is None

    given = client.register("lookup-after-value", a_schema("After"))

    assert given == coming
    assert lookup.of([named(given)])[given].text is not None


def test_of_ids_that_were_never_given_some_hundred_are_asked_for(client: CountingRegistry) -> None:
    good = [client.register(f"lookup-{number}-value", a_schema(f"Of{number}")) for number in range(3)]
    unknown = random.Random(5).sample(UNKNOWN, 5_000)

    found = SchemaLookup(client).of([named(number) for number in [*unknown, *good]])

    assert {number for number in found if found[number].text is not None} == set(good)
    assert len(found) == len(unknown) + len(good)
    assert len(client.asked) < 300
    assert set(good) <= set(client.asked)


def test_an_id_of_a_deleted_subject_is_known(client: CountingRegistry, registry: str) -> None:
    gone = client.register("lookup-deleted-value", a_schema("Deleted"))
    with SchemaRegistryClient({"url": registry}) as deleting:
        deleting.delete_subject("lookup-deleted-value")

    assert SchemaLookup(client).of([named(gone)])[gone].text is not None


class RememberedRegistry(CountingRegistry):
    """A registry that has some schemas, and is asked without a socket."""

    def __init__(self, *good: int) -> None:
        super().__init__("http://nowhere")
        self.good = set(good)

    def schema(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        return a_schema("Good") if schema_id in self.good else None


def test_a_topic_full_of_ids_that_were_never_given_costs_some_thousand_questions() -> None:
    rng, registry = random.Random(5), RememberedRegistry(3, 70_000)
    lookup = SchemaLookup(registry)
    for _ in range(200):
        found = lookup.of([named(schema_id) for schema_id in rng.sample(UNKNOWN, 5_000)] + [named(70_000)])
        assert [schema_id for schema_id, schema in found.items() if schema.text] == [70_000]
    registry.good.add(70_001)

    found = lookup.of([named(schema_id) for schema_id in (*rng.sample(UNKNOWN, 5_000), 3, 70_001)])

    assert found[3].text
    assert found[70_001].text
    assert len(registry.asked) < 4_000


def test_an_id_that_more_messages_name_is_asked_for_however_many_unknown_ones_are_below_it() -> None:
    lookup = SchemaLookup(RememberedRegistry(70_000))
    assert lookup.of([named(schema_id) for schema_id in (*range(1, 5_000), 70_000, 70_000)])[70_000].text


def test_a_good_id_above_many_unknown_ones_is_asked_for_at_once() -> None:
    lookup = SchemaLookup(RememberedRegistry(200))
    assert lookup.of([named(schema_id) for schema_id in range(1, 300)])[200].text


def test_an_id_that_counted_as_unknown_is_asked_for_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_lookup, "_REMEMBERED_S", 1e9)
    registry = RememberedRegistry()
    lookup = SchemaLookup(registry)
    lookup.of([named(schema_id) for schema_id in range(1, 2_000)])
    registry.good.add(3_000)
    values = [named(3_000), *(named(schema_id) for schema_id in range(2_000, 2_010) for _ in range(2))]
    assert lookup.of(values)[3_000].text is None

    monkeypatch.setattr(lookup, "_remembered_until", 0.0)

    assert lookup.of(values)[3_000].text
