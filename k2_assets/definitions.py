"""The code location: everything that Dagster shows and runs. The settings are read here, once."""

import dagster as dg

from k2_assets.automation import automation_sensor
from k2_assets.bronze.assets import bronze_assets, feed_event_assets
from k2_assets.checks.assets import candle_invariants, silver_check, unique_message_id, unique_quote_message_id
from k2_assets.drain.job import drain_job
from k2_assets.gold.assets import gold_crypto_quotes, gold_crypto_trades, gold_ohlcv_1m
from k2_assets.maintenance.job import maintain_job, maintain_schedule
from k2_assets.reference.assets import one_version_at_a_time, reference_instruments, register_job, register_schedule
from k2_assets.resources.lake import Lake
from k2_assets.sensors.backlog import backlog_sensor
from k2_assets.sensors.feed import feed_sensor
from k2_assets.sensors.register import register_sensor
from k2_assets.silver.assets import silver_assets
from k2_core import logs
from k2_core.home_format import require_known_home
from k2_core.settings import Settings, load_settings
from k2_core.tables import DATA
from k2_core.venues import VENUES


def build_definitions(settings: Settings) -> dg.Definitions:
    """Return the code location for a platform with these settings."""
    lake = Lake(settings)
    job, maintain, refresh = drain_job(settings.drain), maintain_job(), register_job()
    drained = [spec for venue in VENUES for make in (bronze_assets, silver_assets) for spec in make(venue)]
    gold = dg.AssetSelection.groups("gold")
    return dg.Definitions(
        assets=[
            reference_instruments,
            *drained,
            *feed_event_assets(),
            gold_crypto_trades,
            gold_crypto_quotes,
            gold_ohlcv_1m,
        ],
        asset_checks=[
            *(silver_check(venue, data) for venue in VENUES for data in DATA),
            unique_message_id,
            unique_quote_message_id,
            candle_invariants,
            one_version_at_a_time,
        ],
        jobs=[job, maintain, refresh],
        schedules=[maintain_schedule(maintain), register_schedule(refresh)],
        sensors=[
            feed_sensor(settings, job),
            backlog_sensor(lake),
            automation_sensor(gold),
            register_sensor(lake, refresh),
        ],
        resources={"lake": lake},
        executor=dg.in_process_executor,
    )


logs.configure("dagster")
_settings = load_settings()
require_known_home(_settings)
defs = build_definitions(_settings)
