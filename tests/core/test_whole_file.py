"""A file is replaced as a whole or not at all."""

from pathlib import Path

import pytest

from k2_core import whole_file


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "feed" / "binance.json"
    whole_file.replace(path, b"one")
    whole_file.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_that_has_the_old_file_open_reads_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    whole_file.replace(path, b"the old content")
    with path.open("rb") as reader:
        assert reader.read(3) == b"the"
        whole_file.replace(path, b"new")
        assert reader.read() == b" old content"


def test_the_file_is_as_it_was_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    whole_file.replace(path, b"old")

    def full(_: Path, content: bytes) -> int:
        raise OSError(28, f"no space for {len(content)} bytes")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        whole_file.replace(path, b"new")
    assert path.read_bytes() == b"old"
