"""The schemas that Kafka's messages were written with: ids in the Confluent header, and their form for fastavro."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fastavro

from k2_core import topics
from k2_core.raw_frame import CONFLUENT_HEADER_BYTES
from k2_core.registry import same_schema


@dataclass(frozen=True)
class WriterSchema:
    """The schema of an id in the registry; ``text`` is None when the registry does not know the id."""

    text: str | None

    @cached_property
    def is_ours(self) -> bool:
        """Whether its records are laid out as ours are."""
        try:
            return self.text is not None and same_schema(self.text, topics.raw_frame_schema())
        except ValueError:  # not JSON: registries keep Protobuf as well
            return False

    @cached_property
    def parsed(self) -> Any:
        """The schema for fastavro; raises whatever fastavro raises for one that is not Avro.

        Logical types are left out: they would turn numbers and texts of our schemas into dates and UUIDs.
        """
        return fastavro.parse_schema(_without_logical_types(json.loads(self.text or "")))


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(each) for each in schema]
    if isinstance(schema, dict):
        return {name: _without_logical_types(each) for name, each in schema.items() if name != "logicalType"}
    return schema


def schema_id_counts(values: list[bytes]) -> dict[int, int]:
    """Return every schema id in the Confluent headers of ``values``, and how many of them name it."""
    headers = Counter([value[:CONFLUENT_HEADER_BYTES] for value in values])
    whole = ((h, count) for h, count in headers.items() if len(h) == CONFLUENT_HEADER_BYTES and h[0] == 0)
    return {int.from_bytes(h[1:], "big"): count for h, count in whole}
