"""Bring the candles of one day up to what they are made from: recompute the touched windows, replace what differs.

One-minute candles are made from gold's trades, wider ones from one-minute candles. A wide window of which these do not
tell all exactly is built from its trades.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Final

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_assets.gold.bounding_trades import BoundedRows, Source, Touched, bounded_rows, touched_by
from k2_assets.gold.candle_fitness import IS_FIT, require_fit
from k2_assets.gold.candle_rollup import MINUTE_COLUMNS, rolled_up
from k2_assets.gold.candle_rows import PROOF, SHAPE, TRADE_COLUMNS, Span, candles, span_frame
from k2_assets.gold.instrument_rows import KEY
from k2_assets.gold.refresh_counts import WindowCounts
from k2_assets.gold.restatements import CONTENT, WINDOW, Reason, Restating, restated_windows
from k2_assets.lake.commits import ATTEMPTS, Change, arrow_schema
from k2_assets.lake.pending_rows import commit_with_rows
from k2_assets.lake.rebuilt_days import Taken, marked
from k2_assets.lake.row_filters import day_bounds_us, time_between
from k2_assets.lake.source_files import Seen, live_files, oldest_batch, paths_between, read_files
from k2_assets.reference.epoch_register import epochs_table, read_epochs
from k2_core import clock
from k2_core.lake.removed_days import RemovedDays
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_RESTATEMENTS, GOLD_TRADES, derived_from

Remember = Callable[[Table], dict[str, str]]
_BATCH_ROWS: Final = 1_000_000
_IDS: Final = ("lowest_sequence", "highest_sequence")
_COLUMNS: Final = (*SHAPE, *PROOF, "created_at", "updated_at")


class CandlesRefresh:
    """One day's run of one timeframe."""

    def __init__(self, catalog: Catalog, namespace: str, spec: TableSpec, day: date) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._spec = spec
        assert spec.timeframe is not None  # noqa: S101  # of candles
        self._width_us = spec.timeframe.width_us
        self._day = day
        self._schema = arrow_schema(spec)
        self._counts = WindowCounts()
        self._began = clock.now()
        # What this run has taken in: the table forgets days that are older than its memory is long.
        self._taken = Seen({})
        self._taking = Seen({})
        # The files of the batch before, and of this one, and their rows.
        self._before = self._batch = set[str](), pl.DataFrame()

    def take_in_news(self) -> WindowCounts:
        """Recompute the windows that new files of the source touch, and those of the rows around them.

        A day of which the source has replaced rows since is recomputed whole: they may have gone from any window.

        Raises:
            CommitConflict: other writers were first again and again.
            UnfitTrades: candles cannot be made of its trades; what came before them is taken in.
        """
        total = WindowCounts()
        while True:
            self._counts = WindowCounts()
            if self._commit(self._touched_windows) is None:
                return total
            self._taken, self._before = self._taking, self._batch
            total += self._counts

    def replace_day(self, *, attempts: int = ATTEMPTS) -> WindowCounts:
        """Recompute every window of the day; nothing is committed when none differs.

        Raises:
            CommitConflict: other writers were first, ``attempts`` times.
            UnfitTrades: candles cannot be made of its trades.
        """
        self._commit(self._whole_day, attempts)
        return self._counts

    def _commit(self, compute: Callable[[Table], Change | None], attempts: int = ATTEMPTS) -> Change | None:
        tables = partial(self._load, self._spec.name), partial(self._load, GOLD_RESTATEMENTS.name)
        return commit_with_rows(*tables, compute, attempts=attempts)

    def _load(self, name: str) -> Table:
        return self._catalog.load_table((self._namespace, name))

    def _touched_windows(self, table: Table) -> Change | None:
        source = self._source()
        if self._day in Taken.of(table).behind(source.table):
            return self._whole_day(table)
        of_day = [each for each in source.files if each.day == self._day]
        new = self._taken.newer(source.table, Seen.of(table).newer(source.table, of_day))
        batch = oldest_batch(new, _BATCH_ROWS)
        if not batch:
            return None
        self._taking = self._taken.with_files(source.table, batch)
        rows = read_files(source.table, batch, source.columns)
        if source.columns == TRADE_COLUMNS:
            require_fit(rows, self._day)
        touched = touched_by(rows, source.time_column)
        # What comes after this batch touches its windows again: it is left out. The batch before mostly lies beside it.
        unread = {each.path for each in new}
        near = {each.path: each for each in source.files if each.path not in unread}
        before, rows_before = self._before
        if before and near.keys() >= before:
            near = {path: each for path, each in near.items() if path not in before}
            source = replace(source, files=list(near.values()), rows=pl.concat([rows_before, rows]))
        else:
            source = replace(source, files=list(near.values()), rows=rows)
        self._batch = {each.path for each in batch}, rows

        def remember(newer: Table) -> dict[str, str]:
            return Seen.of(newer).with_files(source.table, batch).to_properties()

        return self._recomputed(table, source, touched, remember, "late")

    def _whole_day(self, table: Table) -> Change | None:
        source = self._source()
        of_day = [each for each in source.files if each.day == self._day]
        is_removed = self._day in RemovedDays.of(source.table.properties)
        origin, rows_of_day = source, of_day
        if is_removed:  # of its minutes; the trades are always there
            origin = self._source(GOLD_TRADES.name)
            rows_of_day = [each for each in origin.files if each.day == self._day]
        rows = read_files(origin.table, rows_of_day, origin.columns)
        if origin.columns == TRADE_COLUMNS:
            require_fit(rows, self._day)
        origin = replace(origin, files=[each for each in origin.files if each.day != self._day], rows=rows)
        existing = live_files(table, "window_start", day=self._day)
        start_us, end_us = day_bounds_us(self._day)
        # Instruments that have candles, and no row of the day any more, are recomputed as well: their candles go.
        both = pl.concat([rows.select(KEY).unique(), read_files(table, existing, KEY)]).unique().sort(KEY)
        whole = [Touched(exchange, symbol, start_us, end_us - 1) for exchange, symbol in both.iter_rows()]
        self._taking = self._taken.with_files(source.table, of_day)

        def remember(newer: Table) -> dict[str, str]:
            seen, removed = Seen.of(newer).with_files(source.table, of_day), RemovedDays.of(newer.properties)
            taken = Taken.of(newer).with_day(source.table, self._day)
            # All of the day is there again, if retention had removed it.
            here = removed.without(self._day).to_properties() if self._day in removed else {}
            return seen.to_properties() | taken.to_properties() | here

        remembered = remember(table)
        change = Change(self._schema.empty_table(), None, remembered)
        if whole:
            change = self._recomputed(table, origin, whole, remember, "rebuild")
        nothing_new = all(table.properties.get(name, "{}") == value for name, value in remembered.items())
        if not change.rows.num_rows and change.replace is None and nothing_new:
            return None
        return change

    def _source(self, name: str = "") -> Source:
        """Return a table that the candles can be made from, as it is now; mostly the one that the spec names."""
        name = name or self._spec.made_from[0]
        table, time = self._load(name), "timestamp" if name == GOLD_TRADES.name else "window_start"
        return Source(
            table, live_files(table, time), TRADE_COLUMNS if name == GOLD_TRADES.name else MINUTE_COLUMNS, time
        )

    def _computed(self, source: Source, touched: list[Touched]) -> tuple[list[Span], pl.DataFrame, pl.DataFrame]:
        """Return the spans to compute, their candles, and the windows that stay as they are: a trade is unfit."""
        epochs = read_epochs(epochs_table(self._catalog, self._namespace))
        around = bounded_rows(source, touched, self._width_us)
        if source.columns == TRADE_COLUMNS:
            unfit = windows_of(around.rows.filter(~IS_FIT), self._width_us)
            computed = candles(around.rows, around.spans, self._width_us, epochs)
            return around.spans, computed.join(unfit, on=WINDOW, how="anti"), unfit
        # Where retention has removed minutes around the windows of an instrument, its trades tell all.
        beside = _beside_removed(source, around)
        by_minutes = [each for each in around.spans if (each.exchange, each.symbol) not in beside]
        computed, unsure = rolled_up(around.rows, by_minutes, self._width_us, epochs)
        again = touched_by(unsure, "window_start")
        again += [each for each in touched if (each.exchange, each.symbol) in beside]
        if not again:
            return by_minutes, computed, unsure
        by_trades, *found = self._computed(self._source(GOLD_TRADES.name), again)
        instruments = pl.DataFrame(sorted(beside), schema=dict.fromkeys(KEY, pl.String), orient="row")
        exact, unfit = (
            pl.concat([rows.join(unsure, on=WINDOW, how="semi"), rows.join(instruments, on=KEY, how="semi")])
            for rows in found
        )
        spans = [each for each in by_trades if (each.exchange, each.symbol) in beside]
        return by_minutes + spans, pl.concat([computed, exact]), unfit

    def _recomputed(
        self, table: Table, source: Source, touched: list[Touched], remember: Remember, reason: Reason
    ) -> Change:
        """Return the change that replaces the touched windows where what the source gives differs."""
        # Windows of unfit trades stay as they are. They are of a day beside this one, whose trades are all fit.
        spans, computed, unfit = self._computed(source, touched)
        first_us, end_us = min(each.first_us for each in spans), max(each.end_us for each in spans)
        near = [
            each for each in live_files(table, "window_start") if each.last_us >= first_us and each.first_us < end_us
        ]
        existing = read_files(table, near, _COLUMNS, time_between("window_start", first_us, end_us))
        gone = without_trades(existing, computed, spans).join(unfit, on=WINDOW, how="anti")
        now = clock.now()
        merged = merge(existing, computed, pl.lit(now)).join(gone, on=WINDOW, how="anti")
        # Ids that no reader sees are written too where they differ: minutes of an earlier version lack them.
        differ = merged.join(existing, on=[*WINDOW, "updated_at", *_IDS], how="anti", nulls_equal=True).select(WINDOW)
        changed = pl.concat([differ, gone])
        self._counts = WindowCounts(computed.height, changed.height)
        then = copy(table)  # a commit that fails brings the table that it was given up to date
        # New files say which windows they touch. Of windows that are gone none does, and a rebuild may have many: the
        # days of both are marked.
        days = gone if reason == "late" else changed
        marks = days["window_start"].dt.date().unique().to_list()
        followers = [self._load(name) for name in derived_from(self._spec.name)] if marks else []

        def remember_all(newer: Table) -> dict[str, str]:
            return remember(newer) | (marked(newer, marks, followers) if followers else {})

        def remember_in(newer: Table) -> dict[str, str] | None:
            unchanged = self._rests_on(newer, first_us, end_us) == self._rests_on(then, first_us, end_us)
            return remember_all(newer) if unchanged else None

        if changed.is_empty():
            return Change(self._schema.empty_table(), None, remember_all(table), remember_in)
        # All windows from the first that changed to the last are written again: a commit replaces one range of time.
        starts = changed["window_start"].to_physical()
        lowest, highest = int(starts.min()), int(starts.max())  # type: ignore[arg-type]  # of integers
        inside = pl.col("window_start").to_physical().is_between(lowest, highest)
        rows = merged.filter(inside).select(self._schema.names).sort("symbol", "exchange", "window_start")
        replace = time_between("window_start", lowest, highest + self._width_us)
        nothing_to_replace = existing.filter(inside).is_empty()  # of which pyiceberg would warn
        what, values = Restating(self._spec.name, reason, now), changed.join(merged, on=WINDOW, how="left")
        return Change(
            rows.to_arrow().cast(self._schema),
            None if nothing_to_replace else replace,
            remember_all(table),
            remember_in,
            other_rows=self._restated(table, what, spans, existing, values),
        )

    def _restated(
        self, table: Table, what: Restating, spans: list[Span], existing: pl.DataFrame, changed: pl.DataFrame
    ) -> pa.Table | None:
        # What a window said that retention has removed is not known: it comes back, and nothing is restated.
        removed, started = RemovedDays.of(table.properties), pl.col("window_start").dt.date()
        gone_days = [day for day in changed.select(started).unique().to_series() if day in removed]
        unknown = changed.filter(started.is_in(gone_days)).join(existing, on=WINDOW, how="anti")
        # Of a day that the memory has forgotten there are candles.
        known_day = bool(Seen.of(table).of_day(self._day)) or not existing.filter(started == self._day).is_empty()
        known = changed.join(unknown, on=WINDOW, how="anti")
        return restated_windows(what, spans, existing, known, known_day=known_day, began=self._began)

    def _rests_on(self, table: Table, first_us: int, end_us: int) -> tuple[object, ...]:
        """Return what candles from ``first_us`` until ``end_us`` depend on in their own table."""
        near = paths_between(table, "window_start", first_us, end_us)
        return near, Seen.of(table).of_day(self._day), Taken.of(table).of_day(self._day)


def _beside_removed(source: Source, around: BoundedRows) -> set[tuple[str, str]]:
    """Return the instruments of which retention has removed rows between the bounding ones that were found.

    Where none was found on a side, it may be among all that was removed there.
    """
    removed, found = RemovedDays.of(source.table.properties), set[tuple[str, str]]()
    for each in around.spans if removed else ():
        of_instrument = pl.col("exchange") == each.exchange, pl.col("symbol") == each.symbol
        times = around.rows.filter(*of_instrument)[source.time_column].to_physical().sort().to_numpy()
        before, after = times[: times.searchsorted(each.first_us)], times[times.searchsorted(each.end_us) :]
        first = clock.from_us(int(before[-1])).date() if len(before) else date.min
        last = clock.from_us(int(after[0])).date() if len(after) else date.max
        if removed.between(first, last):
            found.add((each.exchange, each.symbol))
    return found


def windows_of(trades: pl.DataFrame, width_us: int) -> pl.DataFrame:
    """Return the windows in which trades lie."""
    start = pl.col("timestamp").dt.truncate(f"{width_us}us").alias("window_start")
    return trades.select(*KEY, start).unique()


def without_trades(existing: pl.DataFrame, computed: pl.DataFrame, spans: list[Span]) -> pl.DataFrame:
    """Return the existing windows of ``spans`` that were not computed: they have no trade any more."""
    start_us = pl.col("window_start").to_physical()
    inside = existing.join(span_frame(spans), on=KEY).filter(
        start_us >= pl.col("first_us"), start_us < pl.col("end_us")
    )
    return inside.join(computed, on=WINDOW, how="anti").select(WINDOW)


def merge(existing: pl.DataFrame, computed: pl.DataFrame, now: pl.Expr) -> pl.DataFrame:
    """Return the candles as they should be: ``created_at`` kept, ``updated_at`` moved only where content differs.

    Existing windows that were not computed are kept.

    Args:
        existing: candles with :data:`_COLUMNS`.
        computed: candles without the two times.
        now: the time of this run.
    """
    both = computed.join(existing, on=WINDOW, how="left", suffix="_old")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_old")) for name in CONTENT)
    stamp = now.cast(pl.Datetime("us", "UTC"))
    judged = both.with_columns(
        pl.coalesce("created_at", stamp).alias("created_at"),
        pl.when(same).then(pl.col("updated_at")).otherwise(stamp).alias("updated_at"),
    ).select(_COLUMNS)
    kept = existing.join(computed, on=WINDOW, how="anti").select(_COLUMNS)
    return pl.concat([judged, kept])
