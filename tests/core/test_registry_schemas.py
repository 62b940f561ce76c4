import json
from typing import Any

import pytest

from k2_core import topics
from k2_core.registry import forbidden_change, same_schema


def a_schema(kind: Any = "long", **field: Any) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": [{"name": "a", "type": kind, **field}]})


def a_decimal(scale: int, precision: int = 18) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def test_same_schema_looks_at_what_it_means_alone() -> None:
    ours = topics.raw_frame_schema()
    dense = json.dumps(json.loads(ours), separators=(",", ":"), sort_keys=True)

    assert same_schema(ours, dense)
    assert same_schema(a_schema(doc="one"), a_schema(doc="other"))
    assert not same_schema(a_schema("long"), a_schema("int"))
    assert not same_schema(a_schema(), a_schema(default=1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (a_decimal(8), a_decimal(12)),
        (a_decimal(8), a_decimal(8, precision=28)),
        ("bytes", "string"),
        ("string", "bytes"),
        (["null", a_decimal(8)], ["null", a_decimal(12)]),
        ({"type": "array", "items": "bytes"}, {"type": "array", "items": "string"}),
        ({"type": "map", "values": a_decimal(8)}, {"type": "map", "values": a_decimal(2)}),
        ("long", {"type": "long", "logicalType": "timestamp-micros"}),
    ],
)
def test_forbidden_change_names_what_would_be_read_wrongly(old: Any, new: Any) -> None:
    change = forbidden_change(a_schema(old), a_schema(new))

    assert change is not None
    assert change.startswith("field a")


def test_forbidden_change_lets_pass_what_old_readers_can_bear() -> None:
    more = json.loads(a_schema())
    more["fields"].append({"name": "b", "type": "string", "default": ""})

    assert forbidden_change(a_schema(), json.dumps(more)) is None
    assert forbidden_change(a_schema("int"), a_schema("long")) is None
    assert forbidden_change(topics.raw_frame_schema(), topics.raw_frame_schema()) is None
