"""The instrument register in the asset graph: refreshed every hour, and soon after a start while it lacks a venue."""

from datetime import timedelta
from typing import Any, Final

import dagster as dg

from k2_assets.lake_files import live_files, read_files
from k2_assets.presentation import OWNERS, counted, spec_metadata
from k2_assets.reference.refresh import VenueRefresh
from k2_assets.reference.validity import COLUMNS, contradictions, shared_symbols
from k2_assets.resources.lake import Lake
from k2_core.tables import REFERENCE_INSTRUMENTS
from k2_core.venues import VENUES

JOB: Final = "refresh_instruments"
_NAME: Final = REFERENCE_INSTRUMENTS.name


@dg.asset(
    key=_NAME,
    group_name="reference",
    kinds={"iceberg", "rest"},
    owners=OWNERS,
    pool=_NAME,
    description=f"{REFERENCE_INSTRUMENTS.doc} Asked of the venues' REST interfaces. A change makes a new version, and "
    "ends the one before; it holds from two minutes after it was fetched.",
    metadata=spec_metadata(REFERENCE_INSTRUMENTS),
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
        except Exception as error:  # the edge of one venue's work: said here, and by the run's end
            failed.append(f"{venue} ({error})")
            context.log.exception("%s was not refreshed", venue)
            continue
        counts = {"listed": listed, "new": found.new, "changed": found.changed, "delisted": found.delisted}
        told = {name: len(each) if isinstance(each, list) else each for name, each in counts.items()}
        metadata |= {f"{venue}: {name}": count for name, count in told.items()}
        context.log.info("%s: %s", venue, ", ".join(f"{count} {name}" for name, count in told.items()))
    if failed:
        msg = f"not refreshed: {', '.join(failed)}"
        raise dg.Failure(msg, metadata=metadata)
    return dg.MaterializeResult(metadata=metadata)


@dg.asset_check(
    asset=_NAME,
    name="one_version_at_a_time",
    description="Every symbol has exactly one version at any moment since its first, and every symbol of ours names "
    "one of the venue's.",
)
def one_version_at_a_time(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Look for versions that overlap or leave a hole, and for a symbol that two of the venue's share."""
    table = lake.table(_NAME)
    versions = read_files(table, live_files(table, REFERENCE_INSTRUMENTS.partition_by), COLUMNS)
    found, shared = contradictions(versions), shared_symbols(versions)
    told = [f"{name}: {count:,}" for name, count in found.items() if count]
    told += [f"shared symbols: {', '.join(shared)}"] if shared else []
    return dg.AssetCheckResult(
        passed=not any(found.values()) and not shared,
        severity=dg.AssetCheckSeverity.ERROR if any(found.values()) else dg.AssetCheckSeverity.WARN,
        description=f"{counted(versions.height, 'version')}: {'; '.join(told) or 'one at any moment for each symbol'}.",
        metadata={"versions": versions.height, **found, "shared symbols": ", ".join(shared) or "none"},
    )


def register_job() -> Any:
    """Return the job that refreshes the register."""
    tags = {"k2/queue": JOB, "dagster/max_runtime": "1800"}
    return dg.define_asset_job(
        JOB, selection=[_NAME], tags=tags, description="Asks every fed venue for its instruments."
    )


def register_schedule(job: Any) -> dg.ScheduleDefinition:
    """Return the schedule that refreshes the register every hour."""
    return dg.ScheduleDefinition(
        name="register_schedule",
        job=job,
        cron_schedule="7 * * * *",  # off the hour, when everybody asks
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Refreshes the instrument register every hour.",
    )


def lacking(lake: Lake) -> list[str]:
    """Return the fed venues of which the register holds nothing."""
    table = lake.table(_NAME)
    rows = read_files(table, live_files(table, REFERENCE_INSTRUMENTS.partition_by), ("exchange",))
    there = set(rows.get_column("exchange").unique()) if rows.height else set[str]()
    return [venue for venue in lake.settings.feeds.venues if venue not in there]
