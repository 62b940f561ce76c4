"""The sensor that asks for rebuilds of silver where an epoch changes ids; refine takes them into gold."""

from datetime import date
from typing import Final

import dagster as dg

from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.run_tags import PARTITION_TAG, REBUILD_TAGS, UNFINISHED
from k2_assets.reference.epoch_register import days_to_rebuild, drains_know, epochs_table
from k2_core.lake.tables import bronze_trades, silver_trades
from k2_core.venues import VENUES

_SILVER: Final = {venue: silver_trades(venue).name for venue in VENUES}


def epochs_sensor(lake: Lake) -> dg.SensorDefinition:
    @dg.sensor(
        name="epochs_sensor",
        asset_selection=dg.AssetSelection.assets(*_SILVER.values()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=60,
        description="Asks for the days of silver whose ids an epoch changes, once every drain knows of it.",
    )
    def ask_for_days_of_epochs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        # The days that an epoch changes and that silver has not taken in, only of venues that have epochs.
        epochs = epochs_table(lake.catalog(), lake.namespace)
        behind: dict[str, set[date]] = {}
        if epochs is not None and epochs.current_snapshot() is not None and drains_know(epochs):
            for venue, name in _SILVER.items():
                bronze = lake.table(bronze_trades(venue).name)
                behind[name] = days_to_rebuild(epochs, venue, lake.table(name), bronze)
        unfinished = dg.RunsFilter(tags={"k2/queue": REBUILD_TAGS["k2/queue"]}, statuses=UNFINISHED)
        keys = [run.tags.get(PARTITION_TAG) for run in context.instance.get_runs(unfinished)]
        busy = {date.fromisoformat(key) for key in keys if key}
        requests = []
        for day in sorted(set().union(*behind.values()) - busy):
            selection = [dg.AssetKey(name) for name, days in behind.items() if day in days]
            # With the tag, Dagster does not ask whether the day is a partition: a few rows may lie before the first.
            tags = {**REBUILD_TAGS, PARTITION_TAG: day.isoformat()}
            requests.append(dg.RunRequest(partition_key=day.isoformat(), asset_selection=selection, tags=tags))
        if not requests:
            return dg.SkipReason("silver has the ids of every epoch, or is being rebuilt")
        return dg.SensorResult(run_requests=requests)

    return ask_for_days_of_epochs
