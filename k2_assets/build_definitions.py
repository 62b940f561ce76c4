"""All assets, checks, jobs, sensors and schedules of a platform. Importing this module reads no settings."""

from datetime import date
from functools import partial

import dagster as dg

from k2_assets.alerts.alerts_sensor import alerts_sensor
from k2_assets.bronze.assets import bronze_assets, feed_event_assets
from k2_assets.drain.drain_job import drain_job
from k2_assets.gold.assets import gold_assets
from k2_assets.gold.checks import gold_checks
from k2_assets.gold.gold_balance import GOLD_BALANCES
from k2_assets.kept_runs.keeping_sensor import keeping_sensor
from k2_assets.kept_runs.kept_run import kept_drain, kept_refine
from k2_assets.lake.first_partition import known_first_partition
from k2_assets.lake.lake_resource import Lake
from k2_assets.maintenance.maintain_job import maintain_job, maintain_schedule
from k2_assets.maintenance.retention_job import retention, retention_job, retention_schedule
from k2_assets.orchestration.balance_check import balance_job, balance_schedule, duckdb_resource
from k2_assets.orchestration.code_location import CodeLocation
from k2_assets.orchestration.daily_partitions import daily
from k2_assets.orchestration.first_partition_sensor import first_partition_sensor
from k2_assets.orchestration.interruptions import ends_canceled_executor
from k2_assets.reference.assets import reference_instruments, register_job, register_schedule
from k2_assets.reference.checks import one_version_at_a_time
from k2_assets.reference.register_sensor import register_sensor
from k2_assets.refine.refine_job import refine_job
from k2_assets.rest_routes import route_assets
from k2_assets.silver.assets import silver_assets
from k2_assets.silver.checks import reject_rate_check, silver_balance, silver_check
from k2_assets.silver.epochs_sensor import epochs_sensor
from k2_core.lake.tables import DATA
from k2_core.settings import Settings
from k2_core.venues import VENUES


def build_definitions(settings: Settings, first: date) -> dg.Definitions:
    """Return the definitions for a platform with these settings, whose first partition is ``first``."""
    lake, days = Lake(settings), daily(first)
    venues = tuple(VENUES.values())
    drain, refine = drain_job(settings, venues), refine_job(settings)
    maintain, refresh, removal = maintain_job(), register_job(), retention_job()
    kept = [keeping_sensor(kept_drain(settings), drain, f"{settings.drain.name}_feed_sensor")]
    if settings.refine.enabled:
        kept.append(keeping_sensor(kept_refine(settings), refine, "refine_sensor"))
    drained = [spec for venue in venues for make in (bronze_assets, silver_assets) for spec in make(venue, days)]
    balances = [
        *(silver_balance(venue, data).definition(days) for venue in venues for data in DATA),
        *(each.definition(days) for each in GOLD_BALANCES),
    ]
    balance = balance_job(balances)
    return dg.Definitions(
        assets=[
            reference_instruments,
            retention,
            *drained,
            *feed_event_assets(days),
            *gold_assets(days),
            *route_assets(settings),
        ],
        asset_checks=[
            *(
                make(venue, data, days)
                for make in (silver_check, reject_rate_check)
                for venue in venues
                for data in DATA
            ),
            *gold_checks(days),
            *balances,
            one_version_at_a_time,
        ],
        jobs=[drain, refine, maintain, refresh, removal, balance],
        schedules=[
            maintain_schedule(maintain),
            register_schedule(refresh),
            retention_schedule(removal, settings),
            balance_schedule(balance),
        ],
        sensors=[
            *kept,
            epochs_sensor(lake),
            register_sensor(lake, refresh),
            first_partition_sensor(lake),
            alerts_sensor(settings),
        ],
        resources={"lake": lake, "duckdb": duckdb_resource(settings)},
        executor=ends_canceled_executor,
    )


def code_location(settings: Settings) -> CodeLocation:
    """Return the definitions of a process, which can begin at an earlier day while it runs."""
    return CodeLocation(partial(build_definitions, settings), known_first_partition(settings))
