"""Commits that carry rows for another table: both are there or neither, also when the writer is killed between.

An Iceberg commit changes one table. So the rows are written to a file first, and the commit names the file in a
property of its own table. Then they are appended to the other table, which remembers in the same commit which files it
has taken. Whoever finds a named file that it has not taken appends it.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pyarrow as pa
from pyiceberg.table import Table

from k2_assets.lake.commits import ATTEMPTS, Change, commit_derived
from k2_assets.lake.pending_files import pending_files, read_pending

_TAKEN: Final = "k2.pending_taken"
"""Of the other table: {source table's UUID: the files that it named when they were last taken}."""
Load = Callable[[], Table]


def commit_with_rows(
    load: Load, load_other: Load, compute: Callable[[Table], Change | None], *, attempts: int = ATTEMPTS
) -> Change | None:
    """Do what :func:`~k2_assets.lake.commits.commit_derived` does, and append the change's rows for the other table.

    Args:
        load: loads the newest state of the table that is changed.
        load_other: loads that of the other table.
        compute: as there.
        attempts: as there.

    Returns:
        The change that was committed.

    Raises:
        CommitConflict: other writers were first again and again.
    """

    def settled(table: Table) -> Change | None:
        if earlier := pending_files(table):
            _take(load, load_other)
        change = compute(table)
        return None if change is None else replace(change, taken=frozenset(earlier))

    _, change = commit_derived(load, settled, attempts=attempts)
    if change is not None and change.other_rows is not None:
        _take(load, load_other)
    return change


def _take(load: Load, load_other: Load) -> None:
    """Append the rows of the files that a table names to the other one, where that has not taken them."""

    def missing_rows(other: Table) -> Change | None:
        # The table is loaded after the other one. A file that it still names, and that this state of the other one has
        # not taken, was taken by nobody when that state was loaded; if somebody is first now, the commit is refused.
        table = load()
        name, named = str(table.metadata.table_uuid), pending_files(table)
        taken: dict[str, list[str]] = json.loads(other.properties.get(_TAKEN, "{}"))
        new = [path for path in named if path not in taken.get(name, [])]
        if not new:
            return None
        rows = pa.concat_tables([read_pending(table, path) for path in new])
        return Change(rows, None, {_TAKEN: json.dumps(taken | {name: named})})

    commit_derived(load_other, missing_rows)
