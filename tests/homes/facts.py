"""What a home holds, for comparison with what it held: run by the commit that made a home, and by those after it.

``python facts.py HOME`` prints it as JSON. It must run under every commit from the first packed one on: it uses only
what that one had.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from k2_core.lake.catalog import open_catalog
from k2_core.offsets import Offsets
from k2_core.settings import Settings

NAMESPACE = "market_data"


def facts_of(home: Path) -> dict[str, dict[str, Any]]:
    """Return by table: columns, rows, their digest, offsets, and the rows that each tag names."""
    catalog = open_catalog(Settings(home=home))
    tables = [catalog.load_table(identifier) for identifier in sorted(catalog.list_tables(NAMESPACE))]
    return {table.name()[-1]: _facts(table) for table in tables}


def rows_of(table: Table, columns: Iterable[str], snapshot_id: int | None = None) -> Counter[str]:
    """Count the rows of a table, or of one of its snapshots, by some columns."""
    snapshot = None if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    if snapshot is not None and snapshot.schema_id is not None:  # it has no columns that came later
        columns = set(columns) & {field.name for field in table.schemas()[snapshot.schema_id].fields}
    names = sorted(columns)
    rows = table.scan(selected_fields=tuple(names), snapshot_id=snapshot_id).to_arrow().to_pylist()
    return Counter(repr([str(row[name]) for name in names]) for row in rows)


def digest_of(rows: Counter[str]) -> str:
    """Return the SHA-256 of rows, whatever their order."""
    return sha256("\n".join(sorted(rows.elements())).encode()).hexdigest()


def _facts(table: Table) -> dict[str, Any]:
    columns = [field.name for field in table.schema().fields]
    rows = rows_of(table, columns)
    tags = {name: ref.snapshot_id for name, ref in table.metadata.refs.items() if name != "main"}
    return {
        "columns": columns,
        "rows": rows.total(),
        "digest": digest_of(rows),
        "offsets": [
            [topic, part, offset] for (topic, part), offset in Offsets.from_properties(table.properties).items()
        ],
        "tags": {name: [snapshot, digest_of(rows_of(table, columns, snapshot))] for name, snapshot in tags.items()},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(facts_of(Path(sys.argv[1]).absolute()), indent=1) + "\n")
