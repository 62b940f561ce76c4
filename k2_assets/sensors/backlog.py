"""The safety net below automation: days of which the layer above has not taken in all files, or that were made anew."""

from datetime import date
from typing import Final

import dagster as dg

from k2_assets.automation import PARTITION_TAG, REFINE_TAGS, UNFINISHED
from k2_assets.first_partition import is_day_of_data
from k2_assets.gold.assets import SILVER
from k2_assets.lake_files import ManifestCache, Seen, live_files
from k2_assets.rebuilt import Taken
from k2_assets.reference.epochs import drains_know, epochs_table, read_epochs
from k2_assets.resources.lake import Lake
from k2_core.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES, silver_trades
from k2_core.venues import VENUES

# In the order in which a day's run makes them.
_SOURCES: Final = {**{GOLD[data].name: SILVER[data] for data in DATA}, GOLD_OHLCV_1M.name: (GOLD_TRADES.name,)}

_SILVER: Final = {venue: silver_trades(venue).name for venue in VENUES}


def backlog_sensor(lake: Lake) -> dg.SensorDefinition:
    """Return the sensor that asks for what automation forgot, such as the days of failed runs."""
    cache = {name: ManifestCache() for sources in _SOURCES.values() for name in sources}

    @dg.sensor(
        name="gold_backlog_sensor",
        asset_selection=dg.AssetSelection.assets(*_SOURCES, *_SILVER.values()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=60,
        description="Asks for days that automation forgot: their silver or gold is newer than what stands above it.",
    )
    def ask_for_backlog(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        behind = {name: _days_behind(lake, sources, name, cache) for name, sources in _SOURCES.items()}
        behind[GOLD_TRADES.name] |= _days_of_epochs(lake, GOLD_TRADES.name)
        behind[GOLD_OHLCV_1M.name] |= behind[GOLD_TRADES.name]
        behind |= {name: _days_of_epochs(lake, name, venue) for venue, name in _SILVER.items()}
        busy = _busy_days(context.instance)
        requests = []
        for day in sorted(set().union(*behind.values()) - busy):
            selection = [dg.AssetKey(name) for name, days in behind.items() if day in days]
            # With the tag, Dagster does not ask whether the day is a partition: a few rows may lie before the first.
            tags = {**REFINE_TAGS, PARTITION_TAG: day.isoformat()}
            requests.append(dg.RunRequest(partition_key=day.isoformat(), asset_selection=selection, tags=tags))
        if not requests:
            return dg.SkipReason("all that silver and gold hold has been taken in, or is being taken in now")
        return dg.SensorResult(run_requests=requests)

    return ask_for_backlog


def _days_behind(lake: Lake, sources: tuple[str, ...], derived: str, cache: dict[str, ManifestCache]) -> set[date]:
    table = lake.table(derived)
    seen, taken = Seen.of(table), Taken.of(table)
    days: set[date] = set()
    for name in sources:
        source = lake.table(name)
        days |= seen.behind(source, live_files(source, "timestamp", cache[name])) | taken.behind(source)
    return {day for day in days if is_day_of_data(day)}


def _days_of_epochs(lake: Lake, derived: str, venue: str = "") -> set[date]:
    """Return the days whose ids an epoch changes, as long as ``derived`` has not taken that in.

    Silver is asked for once every drain knows the epoch as well, and only of venues that have any.
    """
    epochs = epochs_table(lake.catalog(), lake.namespace)
    if epochs is None or epochs.current_snapshot() is None:
        return set()
    if venue and not (drains_know(epochs) and venue in {exchange for exchange, _ in read_epochs(epochs)}):
        return set()
    return {day for day in Taken.of(lake.table(derived)).behind(epochs) if is_day_of_data(day)}


def _busy_days(instance: dg.DagsterInstance) -> set[date]:
    """Return the days for which a run of gold is queued or running."""
    filters = dg.RunsFilter(
        tags={"k2/queue": REFINE_TAGS["k2/queue"]},
        statuses=UNFINISHED,
    )
    keys = [run.tags.get(PARTITION_TAG) for run in instance.get_runs(filters)]
    return {date.fromisoformat(key) for key in keys if key}
