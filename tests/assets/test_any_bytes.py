"""Whatever bytes a topic holds: every frame ends in silver, in rejected or as a reply, and nothing is raised."""

import json
from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2_assets.kafka.writer_schema import WriterSchema, schema_id_counts
from k2_core.trades import REASONS
from tests.assets.frames import EVOLVED, NOON_MS, OURS, SCHEMAS, UNKNOWN, a_frame, an_envelope, refined

MOST = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
GOOD = a_frame(77)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["1e400", "-0", "NaN", "0.1", "BTCUSDT", "trade", "btcusdt@trade", "serverShutdown", "9" * 1200])
    | st.sampled_from([0, -1, 10**15, 10**15 - 1, (1 << 63) - 1, 1 << 63, (1 << 62) - 1, 1 << 62, NOON_MS, 10**4000])
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
FIELDS = st.dictionaries(st.sampled_from(["e", "E", "s", "t", "p", "q", "T", "m", "M"]), SCALARS | JSON)


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """Bytes of a good one, cut, doubled or overwritten in places."""
    value = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at, kind = draw(st.integers(0, len(value))), draw(st.integers(0, 3))
        if kind == 0:
            del value[at:]
        elif kind == 1:
            value[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == 2:
            value[at : at + 1] = bytes([draw(st.integers(0, 255))])
        else:
            value += value[:at]
    return bytes(value)


PAYLOADS = (
    st.binary(max_size=80)
    | mutated(GOOD)
    | FIELDS.map(lambda fields: a_frame(1, **fields))
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.builds(lambda stream, data: json.dumps({"stream": stream, "data": data}).encode(), SCALARS, JSON)
)
VALUES = (
    st.binary(max_size=120)
    | PAYLOADS.map(an_envelope)
    | mutated(an_envelope(GOOD))
    | st.builds(
        lambda number, rest: b"\0" + number.to_bytes(4, "big") + rest,
        st.sampled_from([OURS, EVOLVED, UNKNOWN]),
        st.binary(max_size=120),
    )
    | st.builds(an_envelope, PAYLOADS, st.integers(0, 1 << 34), st.integers(0, (1 << 62) - 1))
)


def known(values: list[bytes]) -> Mapping[int, WriterSchema]:
    return {schema_id: SCHEMAS.get(schema_id, WriterSchema(None)) for schema_id in schema_id_counts(values)}


@given(st.lists(VALUES, min_size=1, max_size=6))
@MOST
def test_any_values_become_rows_between_good_neighbours(values: list[bytes]) -> None:
    first, last = an_envelope(a_frame(5)), an_envelope(a_frame(6))

    bronze, made = refined(first, *values, last, schemas=known([first, *values, last]))

    silver = set(made.silver["kafka_offset"].to_pylist())
    reasons = dict(zip(made.rejected["kafka_offset"].to_pylist(), made.rejected["reason"].to_pylist(), strict=True))
    assert {0, len(values) + 1} <= silver
    assert not silver & reasons.keys()
    assert len(silver) + len(reasons) + made.control_frames == bronze.num_rows == len(values) + 2
    assert set(reasons.values()) <= set(REASONS) - {"parser_failed", "not_storable"}
    made.silver.validate(full=True)
    made.rejected.validate(full=True)
