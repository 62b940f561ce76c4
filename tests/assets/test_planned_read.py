"""Many rows of many files, read a bounded number of rows and of bytes at a time."""

from pathlib import Path

import pytest

from k2_assets.lake.source_files import live_files
from k2_core.lake import planned_read
from k2_core.lake.planned_read import ALL_ROWS, in_pieces
from tests.assets.drained import BRONZE, DrainedLake, received

COLUMNS = ("kafka_offset", "payload")


@pytest.mark.parametrize(("most_bytes", "expected"), [(150_000, [2, 2, 1]), (100_000, [1] * 5), (1 << 40, [3, 2])])
def test_a_piece_ends_when_its_rows_or_its_bytes_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int, expected: list[int]
) -> None:
    lake = DrainedLake(tmp_path / "home")
    for number in range(5):
        lake.drain(received(b"%d" % number * 100_000))
    monkeypatch.setattr(planned_read, "PIECE_BYTES", most_bytes)
    monkeypatch.setattr(planned_read, "_SIDE_BY_SIDE", 1)
    table = lake.table(BRONZE)
    files = sorted(live_files(table, "ingestion_timestamp"), key=lambda each: each.sequence)

    pieces = list(in_pieces(table, files, COLUMNS, ALL_ROWS, 3))

    assert [piece.num_rows for piece in pieces] == expected
    assert [row for piece in pieces for row in piece["kafka_offset"].to_pylist()] == list(range(5))
    lake.catalog.close()
