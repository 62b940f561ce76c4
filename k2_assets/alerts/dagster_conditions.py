"""What Dagster knows to be bad: checks, freshness, runs, sensors and schedules. Reads its logs on from a position.

Each reader takes the conditions of its kind that were bad, and returns those that are bad now.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import dagster as dg
import msgspec
import sqlalchemy as sa
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.schedules import SqlScheduleStorage
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._serdes import deserialize_value

from k2_assets.alerts.alert_conditions import Condition, Severity, sentence
from k2_assets.orchestration.run_tags import PARTITION_TAG, RANGE_TAGS

Bad = dict[str, Condition]
Works = Callable[[str], bool]
"""Tells of a kept run, given the id of one that failed, whether a later one works."""

_PAGE: Final = 500
_FORGET_S: Final = 86_400.0
_PATIENCE_S: Final = 60.0  # of what is judged while a platform starts, or fails once because a database was locked
_EVALUATED: Final = dg.DagsterEventType.ASSET_CHECK_EVALUATION
_FAILED: Final = dg.DagsterEventType.PIPELINE_FAILURE
_SUCCEEDED: Final = dg.DagsterEventType.PIPELINE_SUCCESS
_FRESHNESS: Final = {"FAIL": Severity.ERROR, "WARN": Severity.WARNING}
_INSTIGATORS: Final = {InstigatorType.SENSOR: "sensor", InstigatorType.SCHEDULE: "schedule"}
_NEWEST_TICKS: Final = 600  # of a quarter of an hour or more
_LAST: Final = sa.text("SELECT MAX(id) FROM event_logs")
_AFTER: Final = sa.text(
    "SELECT id, event FROM event_logs WHERE dagster_event_type IN "  # noqa: S608  # names of kinds
    f"('{_EVALUATED.value}', '{_FAILED.value}', '{_SUCCEEDED.value}') AND id > :position ORDER BY id LIMIT :page"
)
_ENDED_TICKS: Final = sa.text(
    "SELECT id, selector_id, status FROM job_ticks WHERE id > (SELECT MAX(id) FROM job_ticks) - :newest"
    " AND status IN ('FAILURE', 'SUCCESS', 'SKIPPED') ORDER BY id"
)


@dataclass
class Read:
    """What is bad now, and what of it is forgotten without a message."""

    bad: Bad
    forgotten: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Events:
    """What Dagster's log has gained: entries with their numbers, oldest first, and the number of the last one."""

    entries: list[tuple[int, dg.EventLogEntry]]
    position: int

    def of(self, *kinds: dg.DagsterEventType) -> Iterator[dg.EventLogEntry]:
        """Yield the entries of some kinds."""
        return (entry for _, entry in self.entries if entry.dagster_event_type in kinds)


def read_events(instance: dg.DagsterInstance, position: int) -> Events:
    """Read the results of checks and the ends of runs after a position; one beyond the log's end is of an earlier log.

    One statement as text asks an index for all of them. Dagster's own methods ask for one kind at a time, and on SQLite
    compile each statement again, which takes milliseconds.
    """
    log = instance.event_log_storage
    assert isinstance(log, SqlEventLogStorage)  # noqa: S101  # every storage that Dagster offers is one
    found = list[tuple[int, dg.EventLogEntry]]()
    with log.index_connection() as connection:
        last = connection.execute(_LAST).scalar() or 0
        position = position if position <= last else 0
        while rows := connection.execute(_AFTER, {"position": position, "page": _PAGE}).fetchall():
            found += [(number, deserialize_value(event, dg.EventLogEntry)) for number, event in rows]
            position = rows[-1][0]
    return Events(found, position)


def read_checks(events: Events, before: Bad, known: Collection[dg.AssetCheckKey], now_s: float) -> Read:
    """Read results: of each check and day the newest counts, and it stays bad until it passes for that day.

    A result of no day judged what was newest then, and counts until the check judges a day. A check that only warns is
    forgotten after a day, since what it found may stay in the day's record for ever; and so is one that there is no
    more.
    """
    read = Read(dict(before))
    for entry in events.of(_EVALUATED):
        found: Any = entry.get_dagster_event().event_specific_data
        asset = found.asset_key.to_user_string()
        condition = Condition(
            kind="check",
            subject=asset,
            name=found.check_name,
            partition=found.partition or "",
            severity=Severity.ERROR if found.severity is dg.AssetCheckSeverity.ERROR else Severity.WARNING,
            seen=sentence(found.description or "It failed, and gave no description."),
            link=f"/assets/{quote(asset)}?view=checks&checkDetail={quote(found.check_name)}",
            since_s=entry.timestamp,
            source=entry.run_id or "",
        )
        if found.partition:
            read.bad.pop(msgspec.structs.replace(condition, partition="").key, None)
        read.bad.pop(condition.key, None)
        if not found.passed:
            read.bad[condition.key] = condition
    names = {(key.asset_key.to_user_string(), key.name) for key in known}
    for key, each in read.bad.items():
        only_warned_long_ago = each.severity is Severity.WARNING and each.since_s < now_s - _FORGET_S
        if only_warned_long_ago or (each.subject, each.name) not in names:
            read.forgotten.add(key)
    return read


def read_runs(
    instance: dg.DagsterInstance, events: Events, before: Bad, kept: Mapping[str, Works], now_s: float
) -> Read:
    """Read how runs ended: a failed one is bad until a later run of the same job, assets and days succeeds.

    A kept run is bad until the next one works. One that Dagster starts again is not bad: the last attempt counts. A
    failed run is forgotten after a day, and so are those of an earlier day at the first look.
    """
    read = Read(dict(before))
    for entry in events.of(_FAILED, _SUCCEEDED):
        succeeded = entry.dagster_event_type is _SUCCEEDED
        if succeeded and not any(each.name == entry.job_name for each in read.bad.values()):
            continue
        run = instance.get_run_by_id(entry.run_id)
        if run is None or entry.timestamp < now_s - _FORGET_S:
            continue
        condition = _of_run(run, entry)
        if succeeded:
            read.bad.pop(condition.key, None)
        elif run.tags.get(WILL_RETRY_TAG) != "true":
            read.bad[condition.key] = condition
    for key, each in list(read.bad.items()):
        if each.name in kept and kept[each.name](each.source):
            del read.bad[key]
        elif each.since_s < now_s - _FORGET_S:
            read.forgotten.add(key)
    return read


def read_freshness(instance: dg.DagsterInstance, assets: Collection[dg.AssetKey]) -> Bad:
    """Read which of the assets that have a freshness policy are not fresh."""
    bad = {}
    for key, record in instance.get_freshness_state_records(list(assets)).items() if assets else ():
        severity = _FRESHNESS.get(record.freshness_state.value)
        if severity is None:
            continue
        asset, since_s = key.to_user_string(), record.updated_at.timestamp()
        late = "later than its policy allows" if severity is Severity.ERROR else "late, and soon later than allowed"
        condition = Condition(
            kind="freshness",
            subject=asset,
            severity=severity,
            seen=f"Nothing was materialized for a while: it is {late}.",
            link=f"/assets/{quote(asset)}",
            since_s=since_s,
            patience_s=_PATIENCE_S,
        )
        bad[condition.key] = condition
    return bad


def read_sensors(instance: dg.DagsterInstance, before: Bad) -> Bad:
    """Read which sensors and schedules failed at their last tick that ended, among the newest ticks of all.

    One that has not ticked since stays as it was, unless a person has stopped it.
    """
    storage = instance.schedule_storage
    assert isinstance(storage, SqlScheduleStorage)  # noqa: S101  # every storage that Dagster offers is one
    with storage.connect() as connection:
        rows = connection.execute(_ENDED_TICKS, {"newest": _NEWEST_TICKS}).fetchall()
    newest = {selector: (number, status) for number, selector, status in rows}
    bad = {key: each for key, each in before.items() if each.source not in newest}
    failed = [number for number, status in newest.values() if status == TickStatus.FAILURE.value]
    for tick in storage.get_ticks_by_ids(failed) if failed else ():
        kind = _INSTIGATORS.get(tick.instigator_type)
        if kind is None:
            continue
        condition = Condition(
            kind="sensor",
            subject=tick.instigator_name,
            name=kind,
            severity=Severity.ERROR,
            seen=sentence(f"Its last tick failed: {_reason(tick.error)}"),
            link=f"/locations/k2/{kind}s/{quote(tick.instigator_name)}",
            patience_s=_PATIENCE_S,
            source=tick.selector_id or "",
        )
        bad[condition.key] = condition
    if bad:
        running = {state.selector_id for state in instance.all_instigator_state() if state.is_running}
        bad = {key: each for key, each in bad.items() if each.source in running}
    return bad


def _of_run(run: dg.DagsterRun, entry: dg.EventLogEntry) -> Condition:
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    first, last = (run.tags.get(tag, "") for tag in RANGE_TAGS)
    days = run.tags.get(PARTITION_TAG) or (first if first == last else f"{first} to {last}")
    ended = entry.get_dagster_event()
    return Condition(
        kind="run",
        subject=", ".join(assets) or run.job_name,
        name=run.job_name,
        partition=days,
        severity=Severity.ERROR,
        seen=sentence(_why_it_failed(ended)),
        link=f"/runs/{run.run_id}",
        since_s=entry.timestamp,
        source=run.run_id,
    )


def _why_it_failed(ended: dg.DagsterEvent) -> str:
    """Return the most telling message: of the first step that failed, of the run's own error, or that it failed."""
    data: Any = ended.event_specific_data
    step = getattr(data, "first_step_failure_event", None)
    errors = (getattr(step.event_specific_data, "error", None) if step else None, getattr(data, "error", None))
    return next((_reason(error) for error in errors if error), ended.message or "It failed, and gave no reason.")


def _reason(error: Any) -> str:
    """Return the message of the error that began it all."""
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message if error is not None else "it gave no reason."
