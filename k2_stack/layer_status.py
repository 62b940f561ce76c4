"""How each layer of the lake is: how old its newest row is, and what lies below it that it has not taken in. Pure.

A layer is *behind* when the oldest row below it that it has not taken in has waited for longer than the limit. Only the
times of receipt and of commits count: those of a recording's trades may be years ago, and a quiet market is not behind.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypedDict

from k2_core.lake.manifests import LakeFile
from k2_core.lake.source_memory import oldest_remembered, seen_days
from k2_core.topics import FEED_EVENTS, raw_topic
from k2_stack.iceberg_metadata import LakeTable
from k2_stack.lake_status import CANDLES, EVENTS

LAYERS: Final = ("bronze", "silver", "gold_trades", "gold_quotes", "candles")
GOLD: Final = {"gold_trades": "gold_crypto_trades", "gold_quotes": "gold_crypto_quotes"}
_DATA: Final = ("trades", "quotes")
_DRAIN_JOB: Final = "_drain"
_REFINE_JOB: Final = "gold_refine"


class Layer(TypedDict):
    """One layer. Times are in seconds; ``None`` means that there is nothing to tell, or that nobody could be asked.

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


def layer_of(asset: str) -> str | None:
    """Return the layer that a table belongs to; None for one beside them, such as the register of instruments."""
    for name, prefix in {"bronze": "bronze_", "silver": "silver_", **GOLD, "candles": "gold_ohlcv_"}.items():
        if asset.startswith(prefix):
            return name
    return None


def layers_of_run(job: str, assets: Iterable[str]) -> set[str]:
    """Return the layers that a run was to make: kept runs make several, and say of no asset that they will."""
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
        if layer is not None and at_s is not None and not name.endswith("_rejected"):
            found[layer] = max(found.get(layer, at_s), at_s)
    return found


def below(tables: dict[str, LakeTable]) -> dict[str, Below]:
    """Return what each layer above bronze has not taken in of the one below it."""
    return {
        "silver": _joined(_of_silver(tables)),
        **{layer: _of_derived(tables, name, _silver(tables, name)) for layer, name in GOLD.items()},
        "candles": _of_derived(tables, CANDLES, [GOLD["gold_trades"]]),
    }


def _of_silver(tables: dict[str, LakeTable]) -> Iterator[Below]:
    for name, bronze in tables.items():
        silver = tables.get(name.replace("bronze_", "silver_", 1)) if name.startswith("bronze_") else None
        if silver is not None:
            yield _behind_bronze(bronze, silver)


def _behind_bronze(bronze: LakeTable, silver: LakeTable) -> Below:
    """Compare vectors; the first kept commit of bronze beyond silver's tells since when."""
    taken = silver.offsets
    count = sum(max(following - (taken.get(*place) or 0), 0) for place, following in bronze.offsets.items())
    if not count:
        return NOTHING
    for each in bronze.snapshots:
        if any(following > (taken.get(*place) or 0) for place, following in each.offsets.items()):
            return Below(count, each.at_s)
    return Below(count, None)


def _silver(tables: dict[str, LakeTable], gold: str) -> list[str]:
    data = gold.rpartition("_")[2]
    return [name for name in tables if name.startswith("silver_") and name.endswith(f"_{data}")]


def _of_derived(tables: dict[str, LakeTable], name: str, sources: Iterable[str]) -> Below:
    """Count the rows in files of the sources that came after what the table remembers of their day."""
    derived = tables.get(name)
    if derived is None:
        return NOTHING
    seen = seen_days(derived.properties)
    return _joined(_not_seen(tables[each], seen.get(tables[each].uuid, {})) for each in sources if each in tables)


def _not_seen(source: LakeTable, days: dict[str, int]) -> Below:
    oldest_day = oldest_remembered(days)
    new = [file for file in source.files() if _is_new(file, days, oldest_day)]
    if not new:
        return NOTHING
    return Below(sum(file.rows for file in new), source.committed_at_s(min(file.sequence for file in new)))


def _is_new(file: LakeFile, days: dict[str, int], oldest_day: str) -> bool:
    day = file.day.isoformat()
    return file.sequence > days.get(day, 0) and day >= oldest_day


def _joined(found: Iterable[Below]) -> Below:
    each = list(found)
    times = [below.oldest_at_s for below in each if below.oldest_at_s is not None]
    return Below(sum(below.waiting for below in each), min(times, default=None))
