from collections.abc import Iterator, Sequence
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from k2_api.lake.file_groups import Group
from k2_api.lake.file_index import Filter
from k2_api.lake.file_pruning import surely_first
from k2_core.lake.manifests import LakeFile

TIMES = st.integers(0, 50)
ROWS = st.lists(st.tuples(TIMES, st.sampled_from(["A", "B"])), min_size=1, max_size=6)
FILES = st.lists(ROWS, max_size=8)
FILTERS = st.builds(
    Filter, st.sampled_from([(), ("A",), ("C",), ("A", "C")]), st.just(()), st.integers(-1, 30), st.integers(20, 60)
)


class KnownGroups:
    """What the files hold, without files."""

    def __init__(self, files: Sequence[list[tuple[int, str]]]) -> None:
        self.entries = [_entry(number, rows) for number, rows in enumerate(files)]
        self._groups = {entry.path: _groups(rows) for entry, rows in zip(self.entries, files, strict=True)}

    def walk(self, entries: Sequence[LakeFile]) -> Iterator[tuple[LakeFile, tuple[Group, ...]]]:
        for entry in entries:
            yield entry, self._groups[entry.path]


def _entry(number: int, rows: list[tuple[int, str]]) -> LakeFile:
    times = [time for time, _ in rows]
    names = sorted(name for _, name in rows)
    return LakeFile(
        str(number),
        rows=len(rows),
        size_bytes=0,
        sequence=number,
        day=date.min,
        first_us=min(times),
        last_us=max(times),
        symbols=(names[0], names[-1]),
        exchanges=("x", "x"),
    )


def _groups(rows: list[tuple[int, str]]) -> tuple[Group, ...]:
    return tuple(
        Group("x", symbol, len(times), min(times), max(times), 0, 0)
        for symbol in ("A", "B")
        if (times := [time for time, name in rows if name == symbol])
    )


@given(FILES, FILTERS, st.integers(1, 10), st.booleans())
def test_chosen_files_hold_the_first_rows_of_all(
    files: list[list[tuple[int, str]]], where: Filter, rows: int, newest: bool
) -> None:
    known = KnownGroups(files)
    candidates = [entry for entry in known.entries if where.may_be_in(entry)]
    chosen = surely_first(candidates, known.walk, where, rows, newest=newest)

    def first(numbers: list[int]) -> list[int]:
        fitting = [
            time
            for number in numbers
            for time, name in files[number]
            if name in (where.symbols or (name,)) and where.start_us <= time < where.end_us
        ]
        return sorted(fitting, reverse=newest)[:rows]

    assert first([int(entry.path) for entry in chosen]) == first(list(range(len(files))))


@given(FILES, FILTERS, st.booleans())
def test_every_row_at_the_last_time_is_within_the_chosen_files(
    files: list[list[tuple[int, str]]], where: Filter, newest: bool
) -> None:
    """Rows of one time are ordered by their ids, which are not known yet: all of them must be read."""
    known = KnownGroups(files)
    candidates = [entry for entry in known.entries if where.may_be_in(entry)]
    chosen = {int(entry.path) for entry in surely_first(candidates, known.walk, where, 1, newest=newest)}
    edges = [
        (time, number)
        for number, rows in enumerate(files)
        for time, name in rows
        if name in (where.symbols or (name,)) and where.start_us <= time < where.end_us
    ]
    if edges:
        edge = max(edges)[0] if newest else min(edges)[0]
        assert {number for time, number in edges if time == edge} <= chosen
