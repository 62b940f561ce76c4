"""The sensor that asks for rebuilds of silver where an epoch changes ids; refine takes them into gold."""

from datetime import date
from typing import Final

import dagster as dg

from k2_assets.lake.first_partition import is_day_of_data
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.rebuilt_days import Taken
from k2_assets.orchestration.run_tags import PARTITION_TAG, REBUILD_TAGS, UNFINISHED
from k2_assets.reference.epoch_register import drains_know, epochs_table, read_epochs
from k2_core.lake.tables import silver_trades
from k2_core.venues import VENUES

_SILVER: Final = {venue: silver_trades(venue).name for venue in VENUES}


def epochs_sensor(lake: Lake) -> dg.SensorDefinition:
    """Return the sensor."""

    @dg.sensor(
        name="epochs_sensor",
        asset_selection=dg.AssetSelection.assets(*_SILVER.values()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=60,
        description="Asks for the days of silver whose ids an epoch changes, once every drain knows of it.",
    )
    def ask_for_days_of_epochs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        behind = {name: _days_of_epochs(lake, name, venue) for venue, name in _SILVER.items()}
        requests = []
        for day in sorted(set().union(*behind.values()) - _busy_days(context.instance)):
            selection = [dg.AssetKey(name) for name, days in behind.items() if day in days]
            # With the tag, Dagster does not ask whether the day is a partition: a few rows may lie before the first.
            tags = {**REBUILD_TAGS, PARTITION_TAG: day.isoformat()}
            requests.append(dg.RunRequest(partition_key=day.isoformat(), asset_selection=selection, tags=tags))
        if not requests:
            return dg.SkipReason("silver has the ids of every epoch, or is being rebuilt")
        return dg.SensorResult(run_requests=requests)

    return ask_for_days_of_epochs


def _days_of_epochs(lake: Lake, silver: str, venue: str) -> set[date]:
    """Return the days that an epoch changes and that ``silver`` has not taken in; only of venues that have epochs."""
    epochs = epochs_table(lake.catalog(), lake.namespace)
    if epochs is None or epochs.current_snapshot() is None or not drains_know(epochs):
        return set()
    if venue not in {exchange for exchange, _ in read_epochs(epochs)}:
        return set()
    return {day for day in Taken.of(lake.table(silver)).behind(epochs) if is_day_of_data(day)}


def _busy_days(instance: dg.DagsterInstance) -> set[date]:
    """Return the days for which such a run is queued or running."""
    filters = dg.RunsFilter(tags={"k2/queue": REBUILD_TAGS["k2/queue"]}, statuses=UNFINISHED)
    keys = [run.tags.get(PARTITION_TAG) for run in instance.get_runs(filters)]
    return {date.fromisoformat(key) for key in keys if key}
