"""The processes behind Dagster's runs: which one works on a run, whether it lives, and runs whose process is gone.

Dagster notes the process of every run in the run's own log, whoever started it and whatever it does; so no run has to
record its own. What is here holds for runs on this machine, which is where the default launcher starts them.
"""

from typing import Final

import dagster as dg

from k2_core import process_identity
from k2_core.logs import logger
from k2_core.process_identity import ProcessIdentity

log = logger(__name__)

_LAST_EVENTS: Final = 20
_NOTING: Final = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.RUN_ENQUEUED}
_WORKED_ON: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def process_of(instance: dg.DagsterInstance, run_id: str) -> ProcessIdentity | None:
    """Return the process that works, or worked, on a run; None when none was noted since it was last put in the queue.

    A run goes back into the queue when the code server dies while it starts one; the process of before is not its own.
    """
    events = instance.get_records_for_run(run_id, of_type=_NOTING, limit=_LAST_EVENTS, ascending=False)
    for record in events.records:
        entry = record.event_log_entry
        event = entry.get_dagster_event()
        if event.event_type is dg.DagsterEventType.RUN_ENQUEUED:
            return None
        noted = getattr(event.event_specific_data, "metadata", {}).get("pid")
        if noted is not None:
            return process_identity.noted(int(noted.value), entry.timestamp)
    return None


def fail_orphaned_runs(instance: dg.DagsterInstance, launchers_since_s: float) -> list[str]:
    """Fail every run that no process works on any more, and return their ids; see :func:`orphaned_runs`.

    A run killed together with the code server otherwise stays STARTED and blocks its day for ever.
    """
    records = orphaned_runs(instance, launchers_since_s)
    return [record.dagster_run.run_id for record in records if fail(instance, record.dagster_run.run_id, _GONE)]


def orphaned_runs(instance: dg.DagsterInstance, launchers_since_s: float) -> list[dg.RunRecord]:
    """Return the runs that no process works on any more.

    Args:
        instance: of Dagster.
        launchers_since_s: when what can still start processes for runs was started itself, in seconds since 1970. A run
            without a process that was handed to an earlier one will never get one.
    """
    if instance.run_launcher.supports_check_run_worker_health:  # its workers are elsewhere, and Dagster asks it
        return []
    orphaned = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_WORKED_ON)):
        process = process_of(instance, record.dagster_run.run_id)
        if process is None:
            never_started = record.dagster_run.status is not dg.DagsterRunStatus.STARTED
            is_orphaned = never_started and record.update_timestamp.timestamp() < launchers_since_s
        else:
            is_orphaned = not process.is_running()
        if is_orphaned:
            orphaned.append(record)
    return orphaned


_GONE: Final = "Its process is gone."


def fail(instance: dg.DagsterInstance, run_id: str, reason: str) -> bool:
    """Fail a run, unless it has ended meanwhile; one that was being canceled becomes canceled. Tell whether it did.

    A run says how it ended before its process goes, so that what is read here after the process went is final.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return False
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, reason)
    else:
        instance.report_run_failed(run, reason)
    log.warning("a run was given up", run_id=run_id, job=run.job_name, reason=reason)
    return True
