"""The table of reasons in docs/rejected.md: every reason is in it, with an example that is rejected for it."""

import re
from pathlib import Path

import pytest

from k2_core.trades import REASONS
from tests.assets.frames import OURS, SCHEMAS, UNKNOWN, an_envelope, refined

PAGE = (Path(__file__).parents[2] / "docs" / "rejected.md").read_text()
ROWS = re.findall(r"^\| (\w+) \| (.*?) \| (.*) \|$", PAGE, re.MULTILINE)[1:]
(FRAME,) = re.findall(r"^```json\n(.*)\n```", PAGE, re.MULTILINE)
HEX = re.compile(r"[0-9a-f]{2}( [0-9a-f]{2})+")


def test_the_page_tells_every_reason() -> None:
    assert [reason for reason, _, _ in ROWS] == list(REASONS)
    assert refined(an_envelope(FRAME.encode()))[1].silver.num_rows == 1


def value_of(example: str) -> bytes:
    """The Kafka value that an example stands for."""
    if HEX.fullmatch(example):
        return bytes.fromhex(example)
    if example.startswith("{"):
        return an_envelope(example.encode())
    name, _ = example.split(":", 1)
    frame, written = re.subn(rf'{name}:("[^"]*"|[^,}}]*)', lambda _: example, FRAME)
    assert written == 1, example
    return an_envelope(frame.encode())


@pytest.mark.parametrize(("reason", "example"), [row[:2] for row in ROWS if row[1] != "–"])
def test_an_example_is_rejected_for_its_reason(reason: str, example: str) -> None:
    value = value_of(example.strip("`"))
    schemas = {**SCHEMAS, (1 << 31) - 1: SCHEMAS[UNKNOWN]}
    assert OURS == 1

    _, made = refined(value, schemas=schemas)

    assert made.rejected["reason"].to_pylist() == [reason]
