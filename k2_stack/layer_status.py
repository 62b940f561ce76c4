"""How each layer of the lake is: how old its newest row is, and what it has not taken in of the layer below. Pure.

A layer is *behind* when the oldest row below it that it has not taken in has waited for longer than the limit. Only the
times of receipt and of commits count: those of a recording's trades may be years ago, and a quiet market is not behind.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypedDict

from k2_core import clock
from k2_core.lake.source_memory import oldest_remembered, seen_days
from k2_core.offsets import Offsets
from k2_core.topics import FEED_EVENTS, raw_topic
from k2_stack.dagster_records import FailedRun, FailingCheck
from k2_stack.iceberg_metadata import LakeTable
from k2_stack.lake_status import CANDLES, EVENTS

LAYERS: Final = ("bronze", "silver", "gold_trades", "gold_quotes", "candles")
GOLD: Final = {"gold_trades": "gold_crypto_trades", "gold_quotes": "gold_crypto_quotes"}
_DATA: Final = ("trades", "quotes")
_DRAIN_JOB: Final = "_drain"
_REFINE_JOB: Final = "gold_refine"


class Layer(TypedDict):
    """One layer. Times are in seconds; ``None`` means that nothing is known.

    ``age_s``: since a commit last added rows. ``lag``: messages or rows below that are not taken in yet;
    ``oldest_waiting_s``: for how long the oldest of them has waited; ``behind``: for longer than the limit.
    ``failed_runs``: of the last hour; ``failing_checks``: ``<asset>:<check>``; ``open_gaps``: of the last day.
    """

    age_s: float | None
    lag: int | None
    oldest_waiting_s: float | None
    behind: bool
    failed_runs: int
    failing_checks: list[str]
    open_gaps: int


class Below(NamedTuple):
    """What a layer has not taken in: how much, and since when the oldest of it waits (None: nothing waits)."""

    waiting: int
    oldest_at_s: float | None


NOTHING: Final = Below(0, None)


def layers(
    tables: dict[str, LakeTable],
    below: dict[str, Below],
    *,
    failed: Iterable[FailedRun],
    failing: Iterable[FailingCheck],
    open_gaps: int,
    behind_after_s: float,
) -> dict[str, Layer]:
    """Return every layer, in the order in which data flows."""
    now_s, newest = clock.now_s(), newest_at_s(tables)
    found: dict[str, Layer] = {}
    for name in LAYERS:
        # Times may lie in the future when clocks differ, or wall time was set: an age is never negative.
        at_s, waiting = newest.get(name), below.get(name)
        since_s = waiting.oldest_at_s if waiting else None
        waits = None if since_s is None else round(max(now_s - since_s, 0.0), 3)
        found[name] = {
            "age_s": None if at_s is None else round(max(now_s - at_s, 0.0), 3),
            "lag": None if waiting is None else waiting.waiting,
            "oldest_waiting_s": waits,
            "behind": waits is not None and waits > behind_after_s,
            "failed_runs": 0,
            "failing_checks": [],
            "open_gaps": 0 if name == "gold_quotes" else open_gaps,  # quotes carry no ids that could be missed
        }
    for run in failed:
        for name in layers_of_run(run.job, run.assets):
            found[name]["failed_runs"] += 1
    # A check fails once for each of its days; a layer names it once.
    for check in failing:
        layer = layer_of(check.asset)
        if layer and (shown := f"{check.asset}:{check.check}") not in found[layer]["failing_checks"]:
            found[layer]["failing_checks"].append(shown)
    for each in found.values():
        each["failing_checks"].sort()
    return found


def layer_of(asset: str) -> str | None:
    """Return the layer that a table belongs to; None for one beside them, such as the register of instruments."""
    for name, prefix in {"bronze": "bronze_", "silver": "silver_", **GOLD, "candles": "gold_ohlcv_"}.items():
        if asset.startswith(prefix):
            return name
    return None


def layers_of_run(job: str, assets: Iterable[str]) -> set[str]:
    """Return the layers that a run works on: a kept run works on several, and its record names no assets."""
    if job.endswith(_DRAIN_JOB):
        return {"bronze", "silver"}
    if job == _REFINE_JOB:
        return {"gold_trades", "gold_quotes", "candles"}
    return {layer for asset in assets if (layer := layer_of(asset))}


def topics(tables: Iterable[str]) -> dict[str, str]:
    """Return the topic that each table of bronze is drained from: {topic: table}."""
    found = {}
    for name in tables:
        if name == EVENTS:
            found[FEED_EVENTS] = name
            continue
        venue, _, data = name.removeprefix("bronze_").rpartition("_")
        if name.startswith("bronze_") and data in _DATA:
            found[raw_topic("crypto", data, venue)] = name
    return found


def newest_at_s(tables: dict[str, LakeTable]) -> dict[str, float]:
    """Return when rows last came to each layer, seconds since 1970."""
    found: dict[str, float] = {}
    for name, table in tables.items():
        layer, at_s = layer_of(name), table.rows_came_at_s()
        # Rejected rows are no sign that a layer is up to date: in the best case none ever come.
        if layer is not None and at_s is not None and not name.endswith("_rejected"):
            found[layer] = max(found.get(layer, at_s), at_s)
    return found


def below(tables: dict[str, LakeTable]) -> dict[str, Below]:
    """Return what each layer above bronze has not taken in of the one below it."""
    # Silver lacks the messages between its own committed offsets and those of bronze. They have waited since the first
    # commit of bronze, among those that its history keeps, that went beyond silver's: each summary has its offsets.
    silver = []
    for name, bronze in tables.items():
        twin = tables.get(name.replace("bronze_", "silver_", 1)) if name.startswith("bronze_") else None
        if twin is None:
            continue
        taken, oldest_at_s = twin.offsets, None
        count = sum(max(following - (taken.get(*place) or 0), 0) for place, following in bronze.offsets.items())
        for each in bronze.snapshots if count else ():  # oldest first
            committed = Offsets.from_properties(each.summary)
            if any(following > (taken.get(*place) or 0) for place, following in committed.items()):
                oldest_at_s = each.at_s
                break
        silver.append(Below(count, oldest_at_s))
    found = {"silver": _sum(silver)}
    for layer, name in GOLD.items():
        data = name.rpartition("_")[2]
        sources = [each for each in tables if each.startswith("silver_") and each.endswith(f"_{data}")]
        found[layer] = _behind_sources(tables, name, sources)
    return {**found, "candles": _behind_sources(tables, CANDLES, [GOLD["gold_trades"]])}


def _behind_sources(tables: dict[str, LakeTable], name: str, sources: Iterable[str]) -> Below:
    """Count the rows in files of the sources that the derived table has not taken in."""
    # The rule: a derived table remembers, for each day of each source, the sequence number of the newest commit that it
    # has taken in. A file with a higher number is new to it. The memory holds 400 days: a file of a day before the
    # oldest one in a full memory has been taken in and forgotten, and is not new.
    derived = tables.get(name)
    if derived is None:
        return NOTHING
    seen, found = seen_days(derived.properties), []
    for source in (tables[each] for each in sources if each in tables):
        days = seen.get(source.uuid, {})
        oldest_day = oldest_remembered(days)
        new = []
        for file in source.files():
            day = file.day.isoformat()
            if day >= oldest_day and file.sequence > days.get(day, 0):
                new.append(file)
        if new:
            # When the oldest of them was committed, or the nearest time after it that the history still knows.
            first = min(file.sequence for file in new)
            oldest_at_s = next((each.at_s for each in source.snapshots if each.sequence_number >= first), None)
            found.append(Below(sum(file.rows for file in new), oldest_at_s))
    return _sum(found)


def _sum(found: list[Below]) -> Below:
    times = [below.oldest_at_s for below in found if below.oldest_at_s is not None]
    return Below(sum(below.waiting for below in found), min(times, default=None))
