"""What Dagster has recorded of this home: runs that failed within the last hour, and checks that fail.

Reads Dagster's SQLite stores, and loads no Dagster: that takes two seconds.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

_WAIT_S: Final = 2.0
_FAILED: Final = """
    SELECT run_id, pipeline_name, COALESCE(end_time, CAST(strftime('%s', update_timestamp) AS REAL)) AS ended
    FROM runs WHERE status = 'FAILURE' AND ended >= ? ORDER BY ended"""
_ASSETS: Final = "SELECT DISTINCT asset_key FROM event_logs WHERE run_id = ? AND asset_key IS NOT NULL"
# SQLite takes the other columns from the row that has the largest value.
_JUDGED: Final = """
    SELECT asset_key, check_name, partition, MAX(evaluation_event_storage_id) AS judged,
        CASE execution_status WHEN 'FAILED' THEN evaluation_event END AS failure
    FROM asset_check_executions WHERE execution_status IN ('SUCCEEDED', 'FAILED')
    GROUP BY asset_key, check_name, partition"""


class FailedRun(NamedTuple):
    """A run that failed: its job, the assets that it was to make, and when it ended (seconds since 1970)."""

    run_id: str
    job: str
    assets: tuple[str, ...]
    ended_at_s: float


class FailingCheck(NamedTuple):
    """A check whose newest evaluation failed; ``partition`` is the day that it judged, None when it judged no day.

    ``only_warns``: its severity is WARN. ``judged_at_s``: the time of the evaluation, seconds since 1970.
    """

    asset: str
    check: str
    partition: str | None
    only_warns: bool = False
    judged_at_s: float = 0.0


def failed_runs(dagster_home: Path, since_s: float) -> list[FailedRun]:
    """Return the runs that have failed since then, oldest first.

    Raises:
        sqlite3.Error: the records cannot be read.
    """
    history = dagster_home / "history"
    # Dagster keeps runs in one store, and the assets of their events in another.
    with _opened(history / "runs.db") as runs, _opened(history / "runs" / "index.db") as events:
        found = []
        for run_id, job, ended in runs.execute(_FAILED, (since_s,)) if runs else ():
            assets = events.execute(_ASSETS, (run_id,)).fetchall() if events else []
            found.append(FailedRun(run_id, job, tuple(sorted(_name(asset) for (asset,) in assets)), ended))
    return found


def failing_checks(dagster_home: Path) -> list[FailingCheck]:
    """Return the checks that fail now: of each day the newest evaluation counts.

    An evaluation without a day judged whatever was newest then. It counts until the check has judged a day later on.

    Raises:
        sqlite3.Error: the records cannot be read.
    """
    with _opened(dagster_home / "history" / "runs" / "index.db") as events:
        judged = [] if events is None else events.execute(_JUDGED).fetchall()
    newest: dict[tuple[str, str], int] = {}
    for asset, check, _, at, _ in judged:
        newest[asset, check] = max(newest.get((asset, check), 0), at or 0)
    failing = []
    for asset, check, partition, at, failure in judged:
        if failure is not None and (partition is not None or (at or 0) >= newest[asset, check]):
            # The event as Dagster serializes it: its severity is a map with the name of the enum's member.
            entry = json.loads(failure)
            severity = entry["dagster_event"]["event_specific_data"]["severity"]["__enum__"]
            only_warns = severity == "AssetCheckSeverity.WARN"
            failing.append(FailingCheck(_name(asset), check, partition, only_warns, float(entry["timestamp"])))
    return failing


def _name(asset_key: str) -> str:
    """Return the name of an asset key as Dagster stores it: ``["gold_ohlcv_1m"]``."""
    return "/".join(json.loads(asset_key))


@contextmanager
def _opened(store: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a store to read; None when there is none yet."""
    if not store.exists():
        yield None
        return
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)) as connection:
        yield connection
