import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_api.api_errors import BadCursor
from k2_api.http.cursors import Cursors, Position, load_cursors

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
