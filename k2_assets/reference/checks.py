"""The check of the instrument register: one version of each symbol at any moment."""

from typing import Final

import dagster as dg
import polars as pl

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files, read_files
from k2_assets.orchestration.verdict import counted
from k2_core.lake.tables import REFERENCE_INSTRUMENTS

COLUMNS: Final = ("exchange", "venue_symbol", "symbol", "status", "valid_from", "valid_to")
_KEY: Final = ("exchange", "venue_symbol")


def contradictions(versions: pl.DataFrame) -> dict[str, int]:
    """Return how many versions break each rule.

    A version ends exactly where the next one of its symbol begins, and the last one is open.
    """
    in_order = versions.sort(*_KEY, "valid_from")
    following = pl.col("valid_from").shift(-1).over(_KEY)
    ends = pl.col("valid_to")
    judged = in_order.select(
        empty=ends <= pl.col("valid_from"),
        overlap=following.is_not_null() & (ends.is_null() | (ends > following)),
        hole=following.is_not_null() & (ends < following),
        ended=following.is_null() & ends.is_not_null(),
    )
    return {name: int(judged[name].fill_null(value=False).sum()) for name in judged.columns}


def shared_symbols(versions: pl.DataFrame) -> list[str]:
    """Return the symbols of ours that two listed symbols of a venue share: gold would take them for one market."""
    listed = versions.filter(pl.col("valid_to").is_null() & (pl.col("status") != "delisted"))
    names = listed.group_by("exchange", "symbol").agg(pl.col("venue_symbol").n_unique().alias("spellings"))
    shared = names.filter(pl.col("spellings") > 1).sort("exchange", "symbol")
    return [f"{exchange} {symbol}" for exchange, symbol, _ in shared.iter_rows()]


@dg.asset_check(
    asset=REFERENCE_INSTRUMENTS.name,
    name="one_version_at_a_time",
    description="Every symbol has exactly one version at any moment since its first, and every symbol of ours names "
    "one of the venue's.",
)
def one_version_at_a_time(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Look for versions that overlap or leave a hole, and for a symbol that two of the venue's share."""
    table = lake.table(REFERENCE_INSTRUMENTS.name)
    versions = read_files(table, live_files(table, REFERENCE_INSTRUMENTS.partition_by), COLUMNS)
    found, shared = contradictions(versions), shared_symbols(versions)
    faults = [f"{name}: {count:,}" for name, count in found.items() if count]
    faults += [f"shared symbols: {', '.join(shared)}"] if shared else []
    verdict = "; ".join(faults) or "one at any moment for each symbol"
    return dg.AssetCheckResult(
        passed=not any(found.values()) and not shared,
        severity=dg.AssetCheckSeverity.ERROR if any(found.values()) else dg.AssetCheckSeverity.WARN,
        description=f"{counted(versions.height, 'version')}: {verdict}.",
        metadata={"versions": versions.height, **found, "shared symbols": ", ".join(shared) or "none"},
    )
