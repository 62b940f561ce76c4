import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_api.api_errors import BadCursor
from k2_api.http import cursors
from k2_api.http.cursors import Cursors, Position, RotatedCursors, load_cursors, rotate
from k2_core import clock
from k2_core.errors import SettingsError

CURSORS = Cursors(b"s" * 32)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
POSITIONS = st.builds(
    Position,
    st.lists(st.none() | NUMBERS, min_size=1, max_size=2).map(tuple),
    st.lists(NUMBERS | st.text(max_size=20), max_size=4).map(tuple),
)


@given(POSITIONS, st.text(), st.text())
def test_cursor_is_read_back_with_the_same_key_and_query(position: Position, key: str, query: str) -> None:
    assert CURSORS.read(CURSORS.write(position, key, query), key, query) == position


@given(POSITIONS, st.sampled_from([("k", "other"), ("other", "q"), ("kq", ""), ("", "kq")]))
def test_cursor_is_bound_to_key_and_query(position: Position, other: tuple[str, str]) -> None:
    with pytest.raises(BadCursor):
        CURSORS.read(CURSORS.write(position, "k", "q"), *other)


@given(POSITIONS, st.binary(min_size=32, max_size=32).filter(lambda secret: secret != CURSORS.secret))
def test_cursor_of_another_secret_is_refused(position: Position, secret: bytes) -> None:
    with pytest.raises(BadCursor):
        Cursors(secret).read(CURSORS.write(position, "k", "q"), "k", "q")


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(BadCursor):
        CURSORS.read(text, "k", "q")


def test_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first, second = load_cursors(tmp_path), load_cursors(tmp_path)
    assert first == second
    assert len(first.secret) == 32
    [file] = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_cursors(tmp_path / "other").secret != first.secret


def test_a_rotated_secret_is_used_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    position = Position((1,), (2,))
    running = RotatedCursors(tmp_path)
    old = running.now().write(position, "k", "q")
    rotate(tmp_path)
    monkeypatch.setattr(cursors, "monotonic", lambda: clock.monotonic() + 5)
    with pytest.raises(BadCursor, match="the cursor is not valid here"):
        running.now().read(old, "k", "q")
    new = running.now().write(position, "k", "q")
    assert RotatedCursors(tmp_path).now().read(new, "k", "q") == position
    [file] = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 32


def test_a_rotation_that_fails_leaves_the_secret_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_cursors(tmp_path)

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        rotate(tmp_path)
    assert load_cursors(tmp_path) == before
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_nothing_is_rotated_where_no_api_was_started(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no API has been started"):
        rotate(tmp_path)
    assert not list(tmp_path.iterdir())
