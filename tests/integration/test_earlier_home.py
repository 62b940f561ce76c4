"""A home that an earlier commit made, on this commit's platform: started, fed, counted, its days rebuilt."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from pyiceberg.table import Table

from k2_core.lake.tables import DATA, GOLD, bronze, silver, silver_rejected
from k2_core.offsets import Offsets
from k2_core.settings import Ports
from k2_core.venues import VENUES
from tests.homes.facts import rows_of
from tests.homes.packed import PackedHome, unpack
from tests.integration.rebuild_beside_drain import Lake, a_backfill_that_fails, rebuild_days
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


class Earlier(NamedTuple):
    """A home of an earlier commit: what was in it, and the platform of this commit that runs it."""

    packed: PackedHome
    rows: dict[str, Counter[str]]
    offsets: dict[str, Offsets]
    platform: Platform


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[], Ports]) -> Iterator[Earlier]:
    packed = unpack(tmp_path_factory.mktemp("earlier"))
    lake = Lake(packed.home)
    rows = {name: rows_of(lake.table(name), packed.facts[name]["columns"]) for name in packed.facts}
    offsets = {name: Offsets.from_properties(lake.table(name).properties) for name in RAW}
    settings = {"K2_SIMULATOR__SYMBOLS": SYMBOLS, "K2_KAFKA__RETENTION_DAYS": "36500"}
    platform = Platform(packed.home, free_ports(), **settings)
    with platform.up("--source", "simulator", "--rate", "20"):
        yield Earlier(packed, rows, offsets, platform)
    lake.catalog.close()


def test_home_of_an_earlier_commit_goes_on_where_it_stopped(earlier: Earlier) -> None:
    lake, before = Lake(earlier.platform.home), earlier.rows

    def has_grown() -> bool:
        counts = earlier.platform.status()["tables"]
        return all(
            counts[name] > before[name].total() for name in [*RAW, *SILVER, *(spec.name for spec in GOLD.values())]
        )

    eventually(has_grown, earlier.platform.status)

    for name in GROWS_ALONE:
        assert not before[name] - rows_of(lake.table(name), earlier.packed.facts[name]["columns"]), (
            f"{name} has lost rows"
        )
    for name in RAW:
        table = lake.table(name)  # once: the drain goes on
        offsets = Offsets.from_properties(table.properties)
        assert all((offsets.get(*key) or 0) >= offset for key, offset in earlier.offsets[name].items())
        assert offsets_of(table) == {key: list(range(offset)) for key, offset in offsets.items() if offset}
    for spec in GOLD.values():
        assert set(lake.column(spec.name, "message_id").values()) == {1}
    for name, facts in earlier.packed.facts.items():
        metadata = lake.table(name).metadata
        for tag, (snapshot, _) in facts["tags"].items():
            assert metadata.refs[tag].snapshot_id == snapshot
            assert metadata.snapshot_by_id(snapshot) is not None


@pytest.mark.drawn("platforms")
def test_days_come_back_identical_while_the_drain_goes_on_and_a_failure_says_why(earlier: Earlier) -> None:
    """After the test above: it harms what the home holds."""
    lake = Lake(earlier.platform.home)
    with ThreadPoolExecutor() as beside:
        fails = beside.submit(a_backfill_that_fails, earlier.platform, lake)
        rebuild_days(earlier.platform, lake)
        said = fails.result()
    assert re.search(r"\d of 1 partition not rebuilt; why: .*holds 3 messages twice", said), said


def offsets_of(table: Table) -> dict[tuple[str, int], list[int]]:
    """Return the Kafka offsets of a table's rows in order, by topic id and partition; a doubled one appears twice."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row in table.scan(selected_fields=("topic_id", "kafka_partition", "kafka_offset")).to_arrow().to_pylist():
        found[row["topic_id"], row["kafka_partition"]].append(row["kafka_offset"])
    return {key: sorted(offsets) for key, offsets in found.items()}
