"""The instrument register in the asset graph: refreshed every hour, and soon after a start while it lacks a venue."""

from datetime import timedelta
from typing import Any, Final

import dagster as dg

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files, read_files
from k2_assets.orchestration.asset_metadata import shown_as
from k2_assets.reference.register_refresh import VenueRefresh
from k2_core.lake.tables import REFERENCE_INSTRUMENTS
from k2_core.venues import VENUES

JOB: Final = "refresh_instruments"
_NAME: Final = REFERENCE_INSTRUMENTS.name


@dg.asset(
    key=_NAME,
    kinds={"iceberg", "rest"},
    pool=_NAME,
    description=f"{REFERENCE_INSTRUMENTS.doc} Fetched from the venues' REST interfaces. A change begins a new version "
    "and ends the one before; the new one holds from two minutes after it was fetched.",
    **shown_as(REFERENCE_INSTRUMENTS, "reference", VenueRefresh.run, data="instruments"),
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6), warn_window=timedelta(hours=2)),
)
def reference_instruments(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult[None]:
    """Take in each fed venue's list; one that fails does not keep the others from it, but the run then fails."""
    metadata: dict[str, Any] = {}
    failed: list[str] = []
    for venue in lake.settings.feeds.venues:
        try:
            listed, found = VenueRefresh(lake.catalog(), lake.settings, VENUES[venue]).run()
        except Exception as error:  # the edge of one venue's work: reported here, and at the run's end
            failed.append(f"{venue} ({error})")
            context.log.exception("%s was not refreshed", venue)
            continue
        counts = {
            "listed": listed,
            "new": len(found.new),
            "changed": len(found.changed),
            "delisted": len(found.delisted),
        }
        metadata |= {f"{venue}: {name}": count for name, count in counts.items()}
        context.log.info("%s: %s", venue, ", ".join(f"{count} {name}" for name, count in counts.items()))
    if failed:
        msg = f"not refreshed: {', '.join(failed)}"
        raise dg.Failure(msg, metadata=metadata)
    return dg.MaterializeResult(metadata=metadata)


def register_job() -> Any:
    tags = {"k2/queue": JOB, "dagster/max_runtime": "1800"}
    return dg.define_asset_job(
        JOB, selection=[_NAME], tags=tags, description="Asks every fed venue for its instruments."
    )


def register_schedule(job: Any) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name="register_schedule",
        job=job,
        cron_schedule="7 * * * *",  # off the hour, when everybody asks
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Refreshes the instrument register every hour.",
    )


def lacking(lake: Lake) -> list[str]:
    """Return the fed venues without a row in the register."""
    table = lake.table(_NAME)
    rows = read_files(table, live_files(table, REFERENCE_INSTRUMENTS.partition_by), ("exchange",))
    there = set(rows.get_column("exchange").unique()) if rows.height else set[str]()
    return [venue for venue in lake.settings.feeds.venues if venue not in there]
