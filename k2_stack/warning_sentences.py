"""The warnings of ``k2 status``: sentences that name the place to look at. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from k2_stack import stack_state
from k2_stack.dagster_records import FailedRun, FailingCheck
from k2_stack.lake_status import Ids
from k2_stack.layer_status import Layer
from k2_stack.part_status import KEPT, PartStatus
from k2_stack.stack_state import StackState

_BELOW: Final = {
    "bronze": "messages in Kafka",
    "silver": "messages of bronze",
    "gold_trades": "rows of silver",
    "gold_quotes": "rows of silver",
    "candles": "rows of gold trades",
}
_OF_TIME: Final = {"silence", "stale", "lag", "skew"}
_WARNED_OF_S: Final = 86_400.0
_SHOWN: Final = 3


def of_parts(now: StackState, parts: Iterable[PartStatus]) -> Iterator[str]:
    """Warn of parts that serve and report trouble, and of kept runs that fail."""
    for part in now.parts:
        if part.state == stack_state.READY and part.trouble:
            yield f"{part.name}: {part.message}"
    for each in parts:
        if each["name"] in KEPT and each["state"] == stack_state.FAILING:
            yield f"{each['name']}: {each['message']}"


def of_feed(health: Mapping[str, Any], *, recorded: bool) -> Iterator[str]:
    """Warn of trouble that a feed reports of a venue, such as one that acknowledges and sends nothing.

    A symbol that is quiet may be an illiquid one, so only a whole channel's silence counts. The times of a recording
    are no sign of trouble with its feed, and at its end it is silent.
    """
    for venue, state in health.get("venues", {}).items():
        silent = [text for each in state.get("connections", []) for text in each.get("silent", {}).values()]
        for name, texts in {**state.get("states", {}), "silence": silent}.items():
            if recorded and name in _OF_TIME:
                continue
            yield from (f"feed: {venue}: {text}" for text in texts[:_SHOWN])
            if len(texts) > _SHOWN:
                yield f"feed: {venue}: and {len(texts) - _SHOWN} more like it"


def of_layers(layers: Mapping[str, Layer], limit_s: float) -> Iterator[str]:
    """Warn of layers that are behind."""
    for name, layer in layers.items():
        if layer["behind"]:
            yield (
                f"{name} is behind: {_BELOW[name]} that are not taken in: {layer['lag']:,}, the oldest for "
                f"{layer['oldest_waiting_s']:,.0f} s (limit {limit_s:.0f} s)"
            )


def of_records(
    failed: Iterable[FailedRun], failing: Iterable[FailingCheck], dagster_url: str | None, now_s: float
) -> Iterator[str]:
    """Warn of what Dagster has recorded: runs that failed, one sentence for each kind, and checks that fail.

    A check's sentence names its days. One that only warns counts for a day: a break in a venue's ids, or a message that
    Kafka still had, stays in the day's record for ever.
    """
    kinds: dict[str, list[FailedRun]] = defaultdict(list)
    for run in failed:
        kinds[", ".join(run.assets) or run.job].append(run)
    for what, runs in kinds.items():
        last = f"{dagster_url}/runs/{runs[-1].run_id}" if dagster_url else runs[-1].run_id
        times = "once" if len(runs) == 1 else f"{len(runs)} times"
        yield f"the run of {what} failed {times} within the last hour; the last one: {last}"

    # By check, since one fault often fails the same check of many days.
    days: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in failing:
        if each.only_warns and each.judged_at_s < now_s - _WARNED_OF_S:
            continue
        days[each.asset, each.check] += [each.partition] if each.partition else []
    for (asset, check), partitions in sorted(days.items()):
        newest = sorted(partitions, reverse=True)
        more = f" and {len(newest) - _SHOWN} more days" if len(newest) > _SHOWN else ""
        yield f"the check {check} of {asset} fails{' for ' if newest else ''}{', '.join(newest[:_SHOWN])}{more}"


def of_gaps(gaps: Mapping[tuple[str, str], list[Ids]]) -> Iterator[str]:
    """Warn of trade ids that feeds missed within the last day."""
    if not gaps:
        return
    missing = sum(last - first + 1 for of_one in gaps.values() for first, last in of_one)
    names = sorted(f"{venue} {symbol}" for venue, symbol in gaps)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    yield (
        f"gaps of the last day that are open: {sum(map(len, gaps.values()))}; trades that were missed: {missing:,} "
        f"({', '.join(names[:_SHOWN])}{more})"
    )
