"""What Dagster knows to be bad: checks, freshness, runs, sensors and schedules. Reads its logs on from a position.

Each reader takes the conditions of its kind that were bad, and returns those that are bad now.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from dagster._core.storage.tags import WILL_RETRY_TAG

from k2_assets.alerts.conditions import Condition, Severity, sentence
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


@dataclass
class Read:
    """What is bad now, what is forgotten without a message, and how far the logs were read."""

    bad: Bad
    forgotten: set[str] = field(default_factory=set)
    positions: dict[str, int] = field(default_factory=dict)


def from_the_start_if_new(instance: dg.DagsterInstance, positions: Mapping[str, int]) -> dict[str, int]:
    """Return positions that exist: those beyond the log's end are of an earlier log, which was deleted."""
    last = instance.event_log_storage.get_maximum_record_id() or 0
    return {name: position if position <= last else 0 for name, position in positions.items()}


def read_checks(
    instance: dg.DagsterInstance,
    before: Bad,
    positions: Mapping[str, int],
    known: Collection[dg.AssetCheckKey],
    now_s: float,
) -> Read:
    """Read evaluations: of each check and day the newest counts, and it stays bad until it passes for that day.

    An evaluation of no day judged what was newest then, and counts until the check judges a day. A check that only
    warns is forgotten after a day, since what it found may stay in the day's record for ever; and so is one that there
    is no more.
    """
    read = Read(dict(before))
    for position, entry in _events(instance, _EVALUATED, positions):
        read.positions[_EVALUATED.value] = position
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
            run_id=entry.run_id or "",
        )
        if found.partition:
            read.bad.pop(Condition("check", asset, condition.severity, "", name=found.check_name).key, None)
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
    instance: dg.DagsterInstance,
    before: Bad,
    positions: Mapping[str, int],
    kept: Mapping[str, Works],
    now_s: float,
) -> Read:
    """Read how runs ended: a failed one is bad until a later run of the same job, assets and days succeeds.

    A kept run is bad until the next one works. One that Dagster starts again is not bad: the last attempt counts. A
    failed run is forgotten after a day, and so are those of an earlier day at the first look.
    """
    read = Read(dict(before))
    ended = [
        (position, kind, entry)
        for kind in (_FAILED, _SUCCEEDED)
        for position, entry in _events(instance, kind, positions)
    ]
    for position, kind, entry in sorted(ended, key=lambda each: each[0]):
        read.positions[kind.value] = position
        if kind is _SUCCEEDED and not any(each.name == entry.job_name for each in read.bad.values()):
            continue
        run = instance.get_run_by_id(entry.run_id)
        if run is None or entry.timestamp < now_s - _FORGET_S:
            continue
        condition = _of_run(run, entry)
        if kind is _SUCCEEDED:
            read.bad.pop(condition.key, None)
        elif run.tags.get(WILL_RETRY_TAG) != "true":
            read.bad[condition.key] = condition
    for key, each in list(read.bad.items()):
        if each.name in kept and kept[each.name](each.run_id):
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
    """Read which running sensors and schedules failed at their last tick that ended."""
    bad = {}
    ended = [TickStatus.FAILURE, TickStatus.SUCCESS, TickStatus.SKIPPED]
    for state in instance.all_instigator_state():
        kind = _INSTIGATORS.get(state.instigator_type)
        if kind is None or not state.is_running:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=ended)
        if not ticks or ticks[0].status is not TickStatus.FAILURE:
            continue
        location = state.origin.repository_origin.code_location_origin.location_name
        condition = Condition(
            kind="sensor",
            subject=state.name,
            name=kind,
            severity=Severity.ERROR,
            seen=sentence(f"Its last tick failed: {_reason(ticks[0].error)}"),
            link=f"/locations/{quote(location)}/{kind}s/{quote(state.name)}",
            patience_s=_PATIENCE_S,
        )
        bad[condition.key] = before.get(condition.key, condition)
    return bad


def _events(
    instance: dg.DagsterInstance, kind: dg.DagsterEventType, positions: Mapping[str, int]
) -> Iterator[tuple[int, dg.EventLogEntry]]:
    """Yield the events of a kind after its position, oldest first, by one query of an index for each page."""
    position = positions.get(kind.value, 0)
    while True:
        page = instance.event_log_storage.get_logs_for_all_runs_by_log_id(position, kind, limit=_PAGE)
        for position, entry in page.items():  # the last one is where the next page begins
            yield position, entry
        if len(page) < _PAGE:
            return


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
        run_id=run.run_id,
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
