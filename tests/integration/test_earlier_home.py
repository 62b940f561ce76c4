"""A home that an earlier commit made, under the whole platform of this one: started, fed, ended and counted."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.table import Table

from k2_core.catalog import open_catalog
from k2_core.offsets import Offsets
from k2_core.settings import Ports
from k2_core.tables import DATA, GOLD, bronze, silver, silver_rejected
from k2_core.venues import VENUES
from tests.homes.facts import NAMESPACE, rows_of
from tests.homes.packed import unpack
from tests.integration.whole_platform import Platform, eventually

pytestmark = [pytest.mark.integration]

RAW = [bronze(venue, data).name for venue in VENUES for data in DATA]
SILVER = [silver(venue, data).name for venue in VENUES for data in DATA]
GROWS_ALONE = [
    *RAW,
    *SILVER,
    *(silver_rejected(venue).name for venue in VENUES),
    *(spec.name for spec in GOLD.values()),
]
SYMBOLS = '["BTCUSDT", "ETHUSDT", "BTC/USD", "ETH/USD", "BTC-USD", "ETH-USD"]'


def test_home_of_an_earlier_commit_goes_on_where_it_stopped(tmp_path: Path, free_ports: Callable[[], Ports]) -> None:
    packed = unpack(tmp_path)
    catalog = open_catalog(packed.settings)

    def table(name: str) -> Table:
        return catalog.load_table((NAMESPACE, name))

    def rows(name: str) -> Counter[str]:
        return rows_of(table(name), packed.facts[name]["columns"])

    before = {name: rows(name) for name in packed.facts}
    vectors = {name: Offsets.from_properties(table(name).properties) for name in RAW}
    platform = Platform(packed.home, free_ports(), K2_SIMULATOR__SYMBOLS=SYMBOLS, K2_KAFKA__RETENTION_DAYS="36500")

    def has_grown() -> bool:
        counts = platform.status()["tables"]
        return all(
            counts[name] > before[name].total() for name in [*RAW, *SILVER, *(spec.name for spec in GOLD.values())]
        )

    with platform.up("--source", "simulator", "--rate", "20"):
        eventually(has_grown, platform.status)

    for name in GROWS_ALONE:
        assert not before[name] - rows(name), f"{name} has lost rows"
    for name in RAW:
        vector = Offsets.from_properties(table(name).properties)
        assert all((vector.get(*key) or 0) >= offset for key, offset in vectors[name].items())
        assert offsets_of(table(name)) == {key: list(range(offset)) for key, offset in vector.items() if offset}
    for spec in GOLD.values():
        ids = table(spec.name).scan(selected_fields=("message_id",)).to_arrow()["message_id"].to_pylist()
        assert len(ids) == len(set(ids))
    for name, facts in packed.facts.items():
        for tag, (snapshot, _) in facts["tags"].items():
            assert table(name).metadata.refs[tag].snapshot_id == snapshot
            assert table(name).metadata.snapshot_by_id(snapshot) is not None
    catalog.close()


def offsets_of(table: Table) -> dict[tuple[str, int], list[int]]:
    """Return the Kafka offsets of a table's rows in order, by topic id and partition; a doubled one stands twice."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row in table.scan(selected_fields=("topic_id", "kafka_partition", "kafka_offset")).to_arrow().to_pylist():
        found[row["topic_id"], row["kafka_partition"]].append(row["kafka_offset"])
    return {key: sorted(offsets) for key, offsets in found.items()}
