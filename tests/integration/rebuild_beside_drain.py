"""What is done to days of a whole platform that are rebuilt while its drain goes on appending to them."""

from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import BooleanExpression, In
from pyiceberg.table import Table

from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.lake.commits import arrow_schema
from k2_assets.silver.rebuild_day import rebuild_day
from k2_core.lake.catalog import open_catalog
from k2_core.lake.tables import silver_trades
from k2_core.offsets import Offsets
from k2_core.registry import Registry
from k2_core.settings import Settings
from k2_core.venues import VENUES, binance
from tests.integration.whole_platform import Platform, eventually
from tests.loopback import http

BRONZE, REJECTED = "bronze_binance_trades", "silver_binance_rejected"
SILVER, GOLD, CANDLES = "silver_binance_trades", "gold_crypto_trades", "gold_ohlcv_1m"
LAUNCH = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { ... on LaunchBackfillSuccess { backfillId } }
}
"""
STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""


class Lake:
    """The platform's tables, read and harmed as an operator can, past its own writer."""

    def __init__(self, home: Path) -> None:
        self.catalog: Catalog = open_catalog(Settings(home=home))

    def table(self, name: str) -> Table:
        return self.catalog.load_table(("market_data", name))

    def rows(self, name: str, below: Offsets | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.table(name).scan(_below(below)).to_arrow().to_pylist()
        return found

    def picture(self, name: str, below: Offsets) -> Counter[str]:
        return Counter(repr(sorted(row.items())) for row in self.rows(name, below))

    def column(self, name: str, column: str) -> Counter[Any]:
        return Counter(self.table(name).scan(selected_fields=(column,)).to_arrow()[column].to_pylist())

    def frames(self, name: str, below: Offsets) -> Counter[tuple[str, int, int]]:
        return Counter((r["topic_id"], r["kafka_partition"], r["kafka_offset"]) for r in self.rows(name, below))

    def delete(self, name: str, where: str | BooleanExpression) -> None:
        _insist(lambda: self.table(name).delete(where))

    def append(self, name: str, rows: pa.Table) -> None:
        _insist(lambda: self.table(name).append(rows))


def _insist(change: Callable[[], None]) -> None:
    """Try until the platform's own commits let one more pass."""
    while True:
        try:
            change()
        except CommitFailedException:
            continue
        return


def _below(vector: Offsets | None) -> str:
    if vector is None:
        return "true"
    return " or ".join(
        f"(topic_id = '{topic}' and kafka_partition = {partition} and kafka_offset < {offset})"
        for (topic, partition), offset in vector.items()
    )


def days_of(lake: Lake) -> list[str]:
    return sorted({each.date().isoformat() for each in lake.column(SILVER, "timestamp")})


def launch_as_the_pages_do(url: str, assets: list[str], days: list[str]) -> None:
    """Launch a backfill through GraphQL and wait for its good end."""

    def ask(query: str, **variables: Any) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        answer = http.post(f"{url}/graphql", json=body).raise_for_status().json()
        assert "errors" not in answer, answer
        return answer["data"]

    params = {"assetSelection": [{"path": [name]} for name in assets], "partitionNames": days}
    backfill_id = ask(LAUNCH, params=params)["launchPartitionBackfill"]["backfillId"]

    def status() -> str:
        return ask(STATUS, id=backfill_id)["partitionBackfillOrError"]["status"]

    eventually(lambda: status().startswith(("COMPLETED", "FAILED")), status)
    assert status() == "COMPLETED_SUCCESS"


def assert_layers_agree(lake: Lake) -> None:
    """Every frame below silver's vector is once in silver or rejected, but for control frames."""
    vector = Offsets.from_properties(lake.table(SILVER).properties)
    control = {
        (r["topic_id"], r["kafka_partition"], r["kafka_offset"])
        for r in lake.rows(BRONZE, vector)
        if r["channel"] == "control"
    }
    bronze = lake.frames(BRONZE, vector)
    assert set(bronze.values()) == {1}
    wanted = Counter({place: count for place, count in bronze.items() if place not in control})
    assert lake.frames(SILVER, vector) + lake.frames(REJECTED, vector) == wanted


def await_gold_of(lake: Lake) -> None:
    """Wait until gold has what silver holds now, and see that it has nothing else and nothing twice."""
    wanted = in_silver(lake)
    eventually(lambda: wanted <= set(lake.column(GOLD, "message_id")), lambda: len(lake.column(GOLD, "message_id")))
    gold = lake.column(GOLD, "message_id")
    assert set(gold.values()) == {1}
    assert set(gold) <= in_silver(lake)


def in_silver(lake: Lake) -> set[str]:
    return {each for venue in VENUES for each in lake.column(silver_trades(venue).name, "message_id")}


def rebuild_days(platform: Platform, lake: Lake) -> None:
    eventually(lambda: len(lake.column(CANDLES, "symbol")) > 0, platform.status)
    vector = Offsets.from_properties(lake.table(SILVER).properties)
    before, days = lake.picture(SILVER, vector), days_of(lake)
    lake.delete(SILVER, _below(vector))
    lake.delete(GOLD, f"timestamp < '{max(lake.column(GOLD, 'timestamp')).isoformat()}'")
    assert lake.rows(SILVER, vector) == []
    url = next(part["url"] for part in platform.status()["parts"] if part["name"] == "dagster-webserver")

    launch_as_the_pages_do(url, [SILVER, GOLD, CANDLES], days)

    assert lake.picture(SILVER, vector) == before
    eventually(lambda: Offsets.from_properties(lake.table(SILVER).properties) != vector, platform.status)
    later = Offsets.from_properties(lake.table(SILVER).properties)  # the drain goes on
    assert all((later.get(*place) or 0) >= offset for place, offset in vector.items())
    assert_layers_agree(lake)
    await_gold_of(lake)

    harm_as_another_parser_would(lake)
    for day in days:
        rebuild_in_this_process(platform, lake, day)
    assert lake.picture(SILVER, vector) == before
    rows = lake.rows(SILVER, vector)
    right = {row["message_id"]: row["price"] for row in rows}
    eventually(lambda: prices_of(lake, rows) == right, platform.status)  # nobody asked gold: silver's mark does
    await_gold_of(lake)

    reconcile_bronze(platform, lake, vector, days)
    assert_layers_agree(lake)
    assert_candles_follow_gold(lake)


def harm_as_another_parser_would(lake: Lake) -> None:
    """Double some prices in silver, and let gold take them in: it has lost these trades before."""
    chosen = [row for row in lake.rows(SILVER) if row["source_sequence"] % 50 == 0]
    wrong = [row | {"price": row["price"] * 2} for row in chosen]
    for name in (SILVER, GOLD):
        lake.delete(name, In("message_id", {row["message_id"] for row in chosen}))
    lake.append(SILVER, pa.Table.from_pylist(wrong, schema=arrow_schema(silver_trades("binance"))))
    eventually(lambda: prices_of(lake, wrong) == {row["message_id"]: row["price"] for row in wrong}, lambda: "gold")


def prices_of(lake: Lake, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what gold says of the trades in ``rows``."""
    gold = lake.table(GOLD).scan(selected_fields=("message_id", "price")).to_arrow()
    prices = dict(zip(gold["message_id"].to_pylist(), gold["price"].to_pylist(), strict=True))
    return {row["message_id"]: prices.get(row["message_id"]) for row in rows}


def rebuild_in_this_process(platform: Platform, lake: Lake, day: str) -> None:
    with Registry(platform.settings.registry_url) as registry:
        rebuild_day(lake.catalog, "market_data", binance, date.fromisoformat(day), SchemaLookup(registry))


def reconcile_bronze(platform: Platform, lake: Lake, vector: Offsets, days: list[str]) -> None:
    before = lake.picture(BRONZE, vector)
    lake.delete(BRONZE, f"({_below(vector)}) and connection_seq >= 10 and connection_seq < 200")
    assert lake.picture(BRONZE, vector) != before

    said = platform.k2("backfill", BRONZE, "--from", days[0], "--to", days[-1])

    count = (date.fromisoformat(days[-1]) - date.fromisoformat(days[0])).days + 1
    assert said.splitlines()[-1] == f"{count} partition{'s' if count > 1 else ''} rebuilt"
    assert lake.picture(BRONZE, vector) == before


def assert_candles_follow_gold(lake: Lake) -> None:
    def counts() -> tuple[int, int]:
        table = lake.table(CANDLES)
        candles = pc.sum(table.scan(selected_fields=("trade_count",)).to_arrow()["trade_count"]).as_py()
        return candles, lake.table(GOLD).scan(selected_fields=("message_id",)).count()

    eventually(lambda: counts()[0] == counts()[1], counts)


def a_backfill_that_fails(platform: Platform, lake: Lake) -> str:
    """Rebuild a day of another venue whose bronze is harmed, and return what the command said."""
    eventually(lambda: len(lake.column("silver_kraken_trades", "symbol")) > 0, platform.status)
    days = sorted({each.date().isoformat() for each in lake.column("silver_kraken_trades", "timestamp")})
    trades = lake.table("bronze_kraken_trades").scan("channel = 'trade'").to_arrow()
    of_day = pc.equal(pc.strftime(trades["min_event_ts"], "%Y-%m-%d"), days[0])
    lake.append("bronze_kraken_trades", trades.filter(of_day).slice(0, 3))
    with pytest.raises(AssertionError) as failed:
        platform.k2("backfill", "silver_kraken_trades", "--from", days[0], "--to", days[0])
    return str(failed.value)
