"""The loop of refine: brings every day of gold that has news up to date, newest day first."""

import random
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from k2_assets.gold.gold_day import GoldDay
from k2_assets.gold.refresh_counts import RefreshCounts
from k2_assets.kept_runs.heartbeat import WAITING, Heart
from k2_assets.kept_runs.kept_run import kept_refine
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration import wait_reasons
from k2_assets.refine.days_with_news import News
from k2_core import clock
from k2_core.errors import K2Error
from k2_core.lake.tables import GOLD_TABLES
from k2_core.logs import logger

log = logger(__name__)

REFINING: Final = "refining"
_LOOK_S: Final = 0.5
_STILL_S: Final = 0.4
_ARRIVING_S: Final = 2.0
_RETRY_FIRST_S: Final = 1.0
_RETRY_LAST_S: Final = 60.0
_NAMED: Final = 3  # troubles that a heartbeat names
_PASSING: Final = (K2Error, OSError, SQLAlchemyError, sqlite3.Error)


@dataclass(frozen=True)
class Refreshed:
    """A day of a table that took in news, and what that did."""

    day: GoldDay
    counts: RefreshCounts
    seconds: float


@dataclass
class Trouble:
    """Why a day was not refreshed and when it is tried again (monotonic); no reason while another run rebuilds it."""

    reason: str
    pause_s: float
    again_at: float


class Refine:
    """Refreshes days until ``stop`` is set; use :meth:`steps`.

    Args:
        lake: whose gold it keeps up to date.
        run_id: who refines, for the heartbeat.
        stop: set to end; the day at hand is finished.
    """

    def __init__(self, lake: Lake, run_id: str, stop: threading.Event) -> None:
        self.lake = lake
        self.news = News(self.lake)
        self._settings = lake.settings
        self._run_id = run_id
        self._stop = stop
        self._troubles: dict[tuple[str, date], Trouble] = {}
        self._last_older = date.max  # the older day that the last look chose

    def steps(self) -> Iterator[Refreshed | None]:
        """Yield each refreshed day, and None after each look, so that the caller can do its own work."""
        with Heart(kept_refine(self._settings), self._run_id) as heart:
            while not self._stop.is_set():
                try:
                    # A drain commits venue after venue: wait until silver has not moved for a moment, so that one
                    # commit of gold takes in all of them.
                    began = clock.monotonic()
                    while self.news.is_arriving() and clock.monotonic() - began < _ARRIVING_S:
                        self._stop.wait(_STILL_S)
                    days = self._chosen(self.news.days())
                    for day in days:
                        heart.progress(REFINING, str(day))
                        yield from self._refreshed(day)
                except _PASSING as error:  # of a look at the catalog: each day has a boundary of its own
                    log.warning("waiting", error=str(error))
                    heart.progress(WAITING, f"{wait_reasons.sentence(error, self._settings)}; trying again")
                    self._stop.wait(_RETRY_FIRST_S)
                    continue
                heart.progress(WAITING, self.trouble())
                yield None
                if not days:
                    self._stop.wait(_LOOK_S)

    def is_caught_up(self, table: str) -> bool:
        """Return whether a table had taken in all news at the last look."""
        return self.news.last.get(table) == set()

    def trouble(self) -> str:
        """Return which days could not be refreshed, and why; empty when there are none."""
        troubles = sorted((key, each.reason) for key, each in self._troubles.items() if each.reason)
        named = [f"{table} of {day}: {reason}" for (table, day), reason in troubles[:_NAMED]]
        more = [f"and {len(troubles) - _NAMED} more"] if len(troubles) > _NAMED else []
        return "; ".join(named + more)

    def _chosen(self, news: dict[str, set[date]]) -> list[date]:
        """Return the newest day that has news, and one older day."""
        self._troubles = {(table, day): each for (table, day), each in self._troubles.items() if day in news[table]}
        now = clock.monotonic()
        waiting = {key for key, each in self._troubles.items() if each.again_at > now}
        days = sorted({day for table, of in news.items() for day in of if (table, day) not in waiting}, reverse=True)
        # Older days take turns. Each look takes the next older one than the last look took; after the oldest it begins
        # again with the newest of them. So no day waits for ever, and the newest never waits for more than one other.
        older = [day for day in days[1:] if day < self._last_older] or days[1:]
        if older:
            self._last_older = older[0]
        return [*days[:1], *older[:1]]

    def _refreshed(self, day: date) -> Iterator[Refreshed]:
        """Refresh the tables that have news of a day; candles also when its trades have just changed."""
        for table in GOLD_TABLES:
            news = self.news.days().get(table, set())
            trouble = self._troubles.get((table, day))
            if day not in news or self._stop.is_set() or (trouble and trouble.again_at > clock.monotonic()):
                continue
            done = self._refresh(GoldDay(self.lake, table, day))
            if done is not None:
                yield done

    def _refresh(self, day: GoldDay) -> Refreshed | None:
        """Refresh one day of one table; an error there stops no other day."""
        began, key = clock.monotonic(), (day.table, day.day)
        try:
            if day.is_leased():
                self._put_off(key, "")  # no trouble: a person's run rebuilds it
                return None
            counts = day.take_in_news()
        except Exception as error:  # the boundary of one day of one table: logged, and shown by `k2 status`
            known = isinstance(error, _PASSING)
            reason = wait_reasons.sentence(error, self._settings) if known else f"{type(error).__name__}: {error}"
            log.warning("not refreshed", table=day.table, day=str(day.day), error=reason, exc_info=not known)
            self._put_off(key, reason)
            return None
        self._troubles.pop(key, None)
        seconds = clock.monotonic() - began
        log.info("refreshed", table=day.table, day=str(day.day), seconds=round(seconds, 3), **vars(counts))
        return Refreshed(day, counts, seconds)

    def _put_off(self, key: tuple[str, date], reason: str) -> None:
        # The pause doubles with each error, up to a minute; it stays short while another run rebuilds the day.
        before = self._troubles.get(key)
        pause_s = min(before.pause_s * 2, _RETRY_LAST_S) if before and reason else _RETRY_FIRST_S
        again_at = clock.monotonic() + pause_s * random.uniform(0.8, 1.2)  # noqa: S311  # jitter, no secret
        self._troubles[key] = Trouble(reason, pause_s, again_at)
