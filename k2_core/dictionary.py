"""The data dictionary as Markdown: ``python -m k2_core.dictionary > docs/data-dictionary.md``. Opens no table."""

import json
import sys
from collections.abc import Iterable
from typing import Final

from k2_core import topics
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import DATA, all_tables
from k2_core.trades import REASONS
from k2_core.venues import VENUES

_HEAD: Final = """\
# Data dictionary

Generated from `k2_core/lake/tables.py`, `k2_core/schemas/` and `k2_core/trades.py` by `python -m k2_core.dictionary`; a
test holds this page against them. Change it there.

All times are UTC. `timestamp` is the venue's time, `received_ns` is when the feed received the frame.
Numbers are decimals, exactly as the venue wrote them; nothing passes through a float. Tables are Iceberg format 2 in
the namespace `market_data`, written as Parquet with zstd, and partitioned by UTC days.
"""
_MESSAGES: Final = """\
## Kafka messages

Avro in Confluent's wire format: a zero byte, the schema's id in the registry as 4 bytes, the record.
"""


def dictionary(specs: Iterable[TableSpec], venues: Iterable[str]) -> str:
    """Return the data dictionary of these tables, and of the Kafka topics of these venues, as Markdown."""
    tables = list(specs)
    contents = "\n".join(f"- [{spec.name}](#{spec.name}): {spec.doc}" for spec in tables)
    raw = ", ".join(f"`{topics.raw_topic('crypto', data, venue)}`" for venue in venues for data in DATA)
    parts = [
        f"{_HEAD}\n{contents}\n- [Reasons of rejection](#reasons-of-rejection)\n- [Kafka messages](#kafka-messages)\n"
    ]
    for spec in tables:
        rows = "\n".join(
            f"| {column.name} | {column.kind} | {'yes' if column.required else 'no'} | {_cell(column.doc)} |"
            for column in spec.columns
        )
        parts.append(
            f"## {spec.name}\n\n{spec.doc} Partitioned by {spec.partition_unit} of `{spec.partition_by}`.\n\n"
            f"| column | type | required | meaning |\n|---|---|---|---|\n{rows}\n"
        )
    reasons = "\n".join(f"| {reason} | {_cell(meaning)} |" for reason, meaning in REASONS.items())
    parts += [
        f"## Reasons of rejection\n\nThe values of `reason`.\n\n| reason | meaning |\n|---|---|\n{reasons}\n",
        _MESSAGES,
        _record("Frames", raw, topics.raw_frame_schema()),
        _record("Feed events", f"`{topics.FEED_EVENTS}`", topics.feed_event_schema()),
    ]
    return "\n".join(parts)


def _record(title: str, where: str, schema: str) -> str:
    record = json.loads(schema)
    # The only types that are no plain name are maps.
    kinds = [f["type"] if isinstance(f["type"], str) else f"map of {f['type']['values']}s" for f in record["fields"]]
    rows = "\n".join(
        f"| {f['name']} | {kind} | {_cell(f['doc'])} |" for f, kind in zip(record["fields"], kinds, strict=True)
    )
    return f"### {title}\n\n{record['doc']} In {where}.\n\n| field | type | meaning |\n|---|---|---|\n{rows}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(dictionary(all_tables(tuple(VENUES)), VENUES))
