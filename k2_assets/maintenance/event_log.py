"""Delete what Dagster keeps of old runs: otherwise its folder grows by a gigabyte a day and its pages get slow.

Dagster itself deletes no run. It derives which days are materialized from the newest event of each asset and day, and
of each check: these stay, with the whole run that they belong to.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
import sqlalchemy as sa
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunTagsTable

from k2_assets.lake.lake_resource import Lake
from k2_core import clock
from k2_core.settings import Dagster

_MOST_RUNS: Final = 2_000  # of one round: the next one goes on
_AT_ONCE: Final = 500  # SQLite takes so many values in a statement
_BY_MACHINE: Final = {"dagster/sensor_name", "dagster/schedule_name"}
_BACKFILL: Final = "dagster/backfill"

_events: Final = SqlEventLogStorageTable.c
_checks: Final = AssetCheckExecutionsTable.c


@dataclass
class Purged:
    """How much was deleted."""

    runs: int = 0
    logs_of_runs: int = 0


@dg.op(
    name="forget_old_runs",
    out={"purged": dg.Out(dagster_type=dg.Nothing)},
    description="Deletes what Dagster keeps of runs that are over and that nothing needs any more.",
)
def forget_old_runs(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
    """Purge Dagster's own storage, and report what was deleted."""
    purged = purge(context.instance, lake.settings.dagster, clock.now())
    context.add_output_metadata({"runs": purged.runs, "logs of runs": purged.logs_of_runs}, output_name="purged")


def purge(instance: dg.DagsterInstance, keep: Dagster, now: datetime) -> Purged:
    """Delete runs and logs that are older than ``keep`` allows and hold no newest event of anything."""
    log = instance.event_log_storage
    assert isinstance(log, SqlEventLogStorage)  # noqa: S101  # every storage that Dagster offers is one
    purged = Purged()
    soon, late = now - timedelta(hours=keep.runs_keep_hours), now - timedelta(days=keep.others_keep_days)
    # The runs of the newest event of each kind of each asset and day, and of the newest results of checks.
    each = _events.asset_key, _events.partition, _events.dagster_event_type
    of_assets = _events.dagster_event_type.in_([kind.value for kind in ASSET_EVENTS])
    newest = sa.select(sa.func.max(_events.id)).where(_events.asset_key.is_not(None), of_assets).group_by(*each)
    of_check = _checks.asset_key, _checks.check_name, _checks.partition, _checks.execution_status
    newest_results = sa.select(sa.func.max(_checks.id)).group_by(*of_check)
    queries = (
        sa.select(_events.run_id).where(_events.id.in_(newest)),
        sa.select(_checks.run_id).where(_checks.id.in_(newest_results)),
    )
    with log.index_connection() as connection:
        needed = {run_id for query in queries for (run_id,) in connection.execute(query)}
    # Only the ids of finished runs at once: runs may be deleted while the others are looked at.
    ids = instance.get_run_ids(dg.RunsFilter(statuses=list(FINISHED_STATUSES), updated_before=soon))
    finished = (
        record
        for first in range(0, len(ids), _AT_ONCE)
        for record in instance.get_run_records(dg.RunsFilter(run_ids=ids[first : first + _AT_ONCE]))
    )
    for run in finished:
        # Nobody will look for a run that succeeded and that a sensor or a schedule had started. Of others that are
        # old, and of those whose events are needed, at least the log files go.
        found, ended = run.dagster_run, run.update_timestamp
        is_old = (ended if ended.tzinfo else ended.replace(tzinfo=UTC)) < late
        of_machine = not _BY_MACHINE.isdisjoint(found.tags) and _BACKFILL not in found.tags
        is_passing = of_machine and found.status is dg.DagsterRunStatus.SUCCESS
        if found.run_id not in needed and (is_passing or is_old):
            _delete(instance, log, found.run_id)
            purged.runs += 1
        elif is_old and _remove_log(instance, log, found.run_id):
            purged.logs_of_runs += 1
        if purged.runs >= _MOST_RUNS:
            break
    if instance.schedule_storage is not None:  # earlier versions had Dagster evaluate conditions all the time
        instance.schedule_storage.purge_asset_evaluations(before=soon.timestamp())
    return purged


def _delete(instance: dg.DagsterInstance, log: SqlEventLogStorage, run_id: str) -> None:
    instance.delete_run(run_id)
    with log.index_connection() as connection:  # Dagster leaves these two behind
        connection.execute(sa.delete(AssetCheckExecutionsTable).where(_checks.run_id == run_id))
    if isinstance(instance.run_storage, SqlRunStorage):
        with instance.run_storage.connect() as connection:
            connection.execute(sa.delete(RunTagsTable).where(RunTagsTable.c.run_id == run_id))
    _remove_log(instance, log, run_id)


def _remove_log(instance: dg.DagsterInstance, log: SqlEventLogStorage, run_id: str) -> bool:
    """Remove the files of a run's own log and of its output; return whether there was a log."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    if not isinstance(log, SqliteEventLogStorage):
        return False
    shard = Path(log.path_for_shard(run_id))
    existed = shard.exists()
    for suffix in ("", "-wal", "-shm"):
        shard.with_name(shard.name + suffix).unlink(missing_ok=True)
    return existed
