"""Silver in the asset graph. The drain fills it, always from bronze's frames."""

import dagster as dg

from k2_assets.partitions import DAILY
from k2_assets.presentation import OWNERS, spec_metadata
from k2_core import tables


def silver_assets(venue: str) -> list[dg.AssetSpec]:
    """Return a venue's silver and rejected tables as assets."""
    bronze = tables.bronze_trades(venue).name
    return [
        dg.AssetSpec(
            spec.name,
            deps=[bronze],
            description=f"{spec.doc} Written by the drain.",
            group_name="silver",
            kinds={"iceberg", "parquet"},
            owners=OWNERS,
            partitions_def=DAILY,
            metadata=spec_metadata(spec),
        )
        for spec in (tables.silver_trades(venue), tables.silver_rejected(venue))
    ]
