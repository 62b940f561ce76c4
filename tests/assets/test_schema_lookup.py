"""Ids of schemas, good and bad, against a real registry."""

import json
import random
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from k2_assets.drain.schemas import SchemaLookup
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


def test_ids_are_asked_for_once_and_odd_ones_are_no_failure(client: CountingRegistry) -> None:
    odd = [named(number) for number in (0, 123_456, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)]
    lookup = SchemaLookup(client)
    found = lookup.of([*odd, b"", b"\0\0", b"{}..."])
    client.close()  # whoever asks again gets an error

    assert {schema.text for schema in found.values()} == {None}
    assert len(found) == len(odd)
    assert lookup.of(odd) == found


def test_of_many_ids_only_those_that_may_have_been_given_are_asked_for(client: CountingRegistry) -> None:
    good = [client.register(f"lookup-{number}-value", a_schema(f"Of{number}")) for number in range(3)]
    unknown = random.Random(5).sample(UNKNOWN, 5_000)
    beside = max(good) + 900

    found = SchemaLookup(client).of([named(number) for number in [*unknown, beside, *good]])

    assert {number for number in found if found[number].text is not None} == set(good)
    assert len(found) == len(unknown) + 1 + len(good)
    assert sorted(client.asked) == [*sorted(good), beside]


def test_among_many_ids_that_of_a_deleted_subject_is_as_known_as_alone(client: CountingRegistry, registry: str) -> None:
    gone = client.register("lookup-deleted-value", a_schema("Deleted"))
    with SchemaRegistryClient({"url": registry}) as deleting:
        deleting.delete_subject("lookup-deleted-value")
    alone = SchemaLookup(client).of([named(gone)])[gone]

    many = SchemaLookup(client).of([named(number) for number in [gone, *range(1 << 20, (1 << 20) + 5_000)]])[gone]

    assert many.text == alone.text
    assert alone.text is not None


def test_where_the_largest_id_is_more_to_ask_for_ids_are_asked_for_singly(client: CountingRegistry) -> None:
    for number in range(20):
        client.register(f"lookup-many-{number}-value", a_schema(f"Of{number}"))
    unknown = range(1 << 20, (1 << 20) + 20)

    found = SchemaLookup(client).of([named(number) for number in unknown])

    assert {schema.text for schema in found.values()} == {None}
    assert sorted(client.asked) == list(unknown)
