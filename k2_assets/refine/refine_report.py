"""What refine reports to Dagster: each day at most every three minutes, and after it the results of its checks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import dagster as dg

from k2_assets.gold.checks import GOLD_CHECKS, GoldCheck
from k2_assets.gold.day_report import facts, sequences
from k2_assets.gold.gold_day import GoldDay
from k2_assets.gold.judged_day import JudgedDay
from k2_assets.gold.refresh_counts import RefreshCounts
from k2_assets.orchestration.check_evaluations import Event, evaluation, result
from k2_assets.refine.refine_loop import Refine, Refreshed
from k2_core import clock
from k2_core.crash_points import reach
from k2_core.lake.tables import GOLD_TABLES
from k2_core.logs import logger
from k2_core.timeframes import ONE_MINUTE

log = logger(__name__)

_EVALUATE_S: Final = 300.0
_DAYS_BEFORE: Final = 7
_LONG_S: Final = 1.0
_TIMES_AS_LONG: Final = 50
_LOOK_S: Final = 5.0
_WIDER_CANDLES: Final = 3
_LAST_S: Final = 30.0  # for the last reports of a run; the next run finds the others


@dataclass(frozen=True)
class _Checked:
    """A check's last result, when it was found (seconds since 1970), and how long that took."""

    result: dg.AssetCheckResult
    at_s: float
    took_s: float


class Reporter:
    """Collects what was refreshed, and reports each day at most every ``interval_s``.

    The newest day of each table is reported also when nothing came, as long as the table has taken in all news. So
    Dagster shows a table as fresh while it is caught up.

    Args:
        refine: whose work is reported.
        interval_s: between two reports of a day; of candles of more than a minute it is three times as long.
        reported: returns the days of a table that were reported, and the sequence number in the last report, or None.
        has_failed: returns whether the last evaluation of a check by another run failed.
    """

    def __init__(
        self,
        refine: Refine,
        interval_s: float,
        reported: Callable[[str], Mapping[date, int | None]],
        has_failed: Callable[[GoldCheck, date], bool],
    ) -> None:
        self._refine = refine
        self._reported: Callable[[str], Mapping[date, int | None]] | None = reported
        self._has_failed = has_failed
        self._interval_s = interval_s
        self._look_at = 0.0
        self._done: dict[tuple[str, date], RefreshCounts] = {}
        self._reported_at: dict[tuple[str, date], float] = {}
        self._checked: dict[tuple[str, str, date], _Checked] = {}

    def add(self, refreshed: Refreshed) -> None:
        """Note what was done to a day."""
        key = refreshed.day.table, refreshed.day.day
        before = self._done.get(key)
        self._done[key] = refreshed.counts if before is None else before + refreshed.counts

    def due(self, *, now: bool = False) -> Iterator[Event]:
        """Yield what is due; with ``now``, all that was refreshed and not reported."""
        if not now and clock.monotonic() < self._look_at:
            return
        self._look_at = clock.monotonic() + min(self._interval_s, _LOOK_S)
        self._add_unreported()
        newest = {(table, day) for table, day in self._refine.news.newest_days.items() if day is not None}
        caught_up = set() if now else {key for key in newest if self._refine.is_caught_up(key[0])}
        ends = clock.monotonic() + (_LAST_S if now else _LOOK_S)
        for table, day in sorted(self._done.keys() | caught_up, key=lambda key: key[1], reverse=True):
            last = self._reported_at.get((table, day))
            timeframe = GOLD_TABLES[table].timeframe
            slower = _WIDER_CANDLES if timeframe is not None and timeframe != ONE_MINUTE else 1
            if now or last is None or clock.monotonic() - last >= slower * self._interval_s:
                try:
                    yield from self._report(table, day)
                except Exception:  # what cannot be reported now is no reason to end a run that refines
                    log.exception("not reported", table=table, day=str(day))
                if clock.monotonic() >= ends:
                    return  # the newest days came first; the next look, or the next run, goes on

    def _add_unreported(self) -> None:
        # Once in a run: what a killed run committed and did not report. The files of such a day have a larger sequence
        # number than its last report.
        if self._reported is None:
            return
        try:
            for table in GOLD_TABLES:
                known = self._reported(table)
                for day, sequence in sequences(self._refine.lake, table).items():
                    if known.get(day, 0) not in {sequence, None}:
                        self._done.setdefault((table, day), GoldDay(self._refine.lake, table, day).nothing_done())
        except Exception:  # as of a report
            log.exception("not compared with what was reported")
        else:
            self._reported = None

    def _report(self, table: str, day: date) -> Iterator[Event]:
        reach(f"{table}.report")
        gold = GoldDay(self._refine.lake, table, day)
        metadata = facts(gold, self._done.get((table, day), gold.nothing_done()))
        self._done.pop((table, day), None)
        self._reported_at[table, day] = clock.monotonic()
        yield dg.AssetMaterialization(table, partition=day.isoformat(), metadata=metadata)
        # The checks of a table share what they read.
        days = {whole: JudgedDay(self._refine.lake, table, day, whole) for whole in (False, True)}
        for check in (each for each in GOLD_CHECKS if each.table == table and each.by_refine):
            if check.newest_day and (table, check.name, day) not in self._checked:
                yield from self._over(check, day)
            yield evaluation(check.key, *self._judged(check, day, days))

    def _over(self, check: GoldCheck, day: date) -> Iterator[Event]:
        # A feed that ended yesterday and began again today would lag yesterday for ever: nothing else reports that day.
        for before in (day - timedelta(days=number) for number in range(1, _DAYS_BEFORE + 1)):
            if self._has_failed(check, before):
                judged = check.judge(JudgedDay(self._refine.lake, check.table, before, whole=False))
                yield evaluation(check.key, result(judged), before, clock.now_s())

    def _judged(
        self, check: GoldCheck, day: date, days: Mapping[bool, JudgedDay]
    ) -> tuple[dg.AssetCheckResult, date, float]:
        # A result is used again for five minutes. A check that failed, in this run or before it, is evaluated each
        # time, and of the whole day: its fault may lie in files that are no longer the newest. What took more than a
        # second is used again for fifty times as long, so that no check takes more than a fiftieth of a processor.
        key = check.table, check.name, day
        known = self._checked.get(key)
        failed = self._has_failed(check, day) if known is None else not known.result.passed
        again_s = 0.0 if failed else _EVALUATE_S
        if known is not None and known.took_s > _LONG_S:
            again_s = max(again_s, _TIMES_AS_LONG * known.took_s)
        if known is None or clock.now_s() - known.at_s >= again_s:
            began, at_s = clock.monotonic(), clock.now_s()
            found = result(check.judge(days[failed and not check.recent]))
            known = self._checked[key] = _Checked(found, at_s, clock.monotonic() - began)
        return known.result, day, known.at_s
