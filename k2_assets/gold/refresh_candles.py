"""Bring a candle table up to what gold_crypto_trades holds of one day: recompute the touched windows, replace them."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_assets.gold.bounding_trades import Touched, surroundings, touched_by
from k2_assets.gold.candle_fitness import IS_FIT
from k2_assets.gold.candle_rows import KEY, SHAPE, Span, candles
from k2_assets.lake.commits import ATTEMPTS, Change, arrow_schema, commit_derived
from k2_assets.lake.rebuilt_days import Taken
from k2_assets.lake.row_filters import day_bounds_us, time_between
from k2_assets.lake.source_files import Seen, live_files, oldest_batch, paths_between, read_files
from k2_assets.reference.epoch_register import epochs_table, read_epochs
from k2_core import clock
from k2_core.lake.manifests import LakeFile
from k2_core.lake.table_spec import TableSpec

Remember = Callable[[Table], dict[str, str]]
_BATCH_ROWS: Final = 1_000_000
_WINDOW: Final = ("exchange", "symbol", "window_start")
_CONTENT: Final = (*(name for name in SHAPE if name not in _WINDOW), "is_complete", "missing_trades")
_COLUMNS: Final = (*SHAPE, "is_complete", "missing_trades", "created_at", "updated_at")


@dataclass(frozen=True)
class Outcome:
    """What a run did, for its operator."""

    windows_computed: int = 0
    windows_changed: int = 0


class CandlesRefresh:
    """One day's run of one timeframe."""

    def __init__(self, catalog: Catalog, namespace: str, spec: TableSpec, day: date) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._spec = spec
        assert spec.timeframe is not None  # noqa: S101  # of candles
        self._width_us = spec.timeframe.width_us
        (self._source,) = spec.made_from
        self._day = day
        self._schema = arrow_schema(spec)
        self._outcome = Outcome()
        # What this run has taken in: the table forgets days that are older than its memory is long.
        self._taken = Seen({})
        self._taking = Seen({})

    def recompute_touched(self) -> Outcome:
        """Recompute the windows that new gold files touch, and those of the trades around them.

        A day that gold replaced whole since is recomputed whole: its trades may have gone from any window.

        Raises:
            CommitConflict: other writers were first again and again.
        """
        total = Outcome()
        while True:
            self._outcome = Outcome()
            _, change = commit_derived(self._load, self._touched_windows)
            if change is None:
                return total
            self._taken = self._taking
            total = Outcome(
                total.windows_computed + self._outcome.windows_computed,
                total.windows_changed + self._outcome.windows_changed,
            )

    def recompute_day(self, *, attempts: int = ATTEMPTS) -> Outcome:
        """Recompute every window of the day; nothing is committed when all stand so already.

        Raises:
            CommitConflict: other writers were first, ``attempts`` times.
        """
        commit_derived(self._load, self._whole_day, attempts=attempts)
        return self._outcome

    def _load(self) -> Table:
        return self._catalog.load_table((self._namespace, self._spec.name))

    def _touched_windows(self, table: Table) -> Change | None:
        gold = self._catalog.load_table((self._namespace, self._source))
        if self._day in Taken.of(table).behind(gold):
            return self._whole_day(table)
        files = live_files(gold, "timestamp")
        seen = Seen.of(table)
        of_day = [each for each in files if each.day == self._day]
        batch = oldest_batch(self._taken.newer(gold, seen.newer(gold, of_day)), _BATCH_ROWS)
        if not batch:
            return None
        self._taking = self._taken.with_files(gold, batch)
        touched = touched_by(read_files(gold, batch, ("exchange", "symbol", "timestamp")))

        def remember(newer: Table) -> dict[str, str]:
            return Seen.of(newer).with_files(gold, batch).to_properties()

        return self._recomputed(table, gold, files, touched, remember)

    def _whole_day(self, table: Table) -> Change | None:
        gold = self._catalog.load_table((self._namespace, self._source))
        files = live_files(gold, "timestamp")
        of_day = [each for each in files if each.day == self._day]
        standing = live_files(table, "window_start", day=self._day)
        start_us, end_us = day_bounds_us(self._day)
        # Those that stand without a trade of the day are judged as well: their candles go.
        both = pl.concat([read_files(gold, of_day, KEY), read_files(table, standing, KEY)]).unique().sort(KEY)
        whole = [Touched(exchange, symbol, start_us, end_us - 1) for exchange, symbol in both.iter_rows()]
        self._taking = self._taken.with_files(gold, of_day)

        def remember(newer: Table) -> dict[str, str]:
            seen, taken = Seen.of(newer).with_files(gold, of_day), Taken.of(newer).with_day(gold, self._day)
            return seen.to_properties() | taken.to_properties()

        remembered = remember(table)
        change = Change(self._schema.empty_table(), None, remembered)
        if whole:
            change = self._recomputed(table, gold, files, whole, remember)
        nothing_new = all(table.properties.get(name, "{}") == value for name, value in remembered.items())
        if not change.rows.num_rows and change.replace is None and nothing_new:
            return None
        return change

    def _recomputed(
        self, table: Table, gold: Table, files: list[LakeFile], touched: list[Touched], remember: Remember
    ) -> Change:
        """Put what gold's trades say of the touched windows in the place of what stands there, where it differs."""
        around = surroundings(gold, files, touched, self._width_us)
        epochs = read_epochs(epochs_table(self._catalog, self._namespace))
        held = windows_of(around.trades.filter(~IS_FIT), self._width_us)  # of a day beside this one: they stay as well
        computed = candles(around.trades, around.spans, self._width_us, epochs).join(held, on=_WINDOW, how="anti")
        first_us, end_us = min(s.first_us for s in around.spans), max(s.end_us for s in around.spans)
        near = [
            each for each in live_files(table, "window_start") if each.last_us >= first_us and each.first_us < end_us
        ]
        standing = read_files(table, near, _COLUMNS, time_between("window_start", first_us, end_us))
        gone = without_trades(standing, computed, around.spans).join(held, on=_WINDOW, how="anti")
        merged = merge(standing, computed, pl.lit(clock.now())).join(gone, on=_WINDOW, how="anti")
        changed = pl.concat([merged.join(standing, on=[*_WINDOW, "updated_at"], how="anti").select(_WINDOW), gone])
        self._outcome = Outcome(computed.height, changed.height)
        then = copy(table)  # a commit that fails brings the table that it was given up to date

        def remember_in(newer: Table) -> dict[str, str] | None:
            as_it_was = self._rests_on(newer, first_us, end_us) == self._rests_on(then, first_us, end_us)
            return remember(newer) if as_it_was else None

        if changed.is_empty():
            return Change(self._schema.empty_table(), None, remember(table), remember_in)
        starts = changed["window_start"].to_physical()
        lowest, highest = int(starts.min()), int(starts.max())  # type: ignore[arg-type]  # of integers
        inside = pl.col("window_start").to_physical().is_between(lowest, highest)
        replace = time_between("window_start", lowest, highest + self._width_us)
        nothing_stands = standing.filter(inside).is_empty()  # pyiceberg warns of a replacement of nothing
        rows = self._to_arrow(merged.filter(inside))
        return Change(rows, None if nothing_stands else replace, remember(table), remember_in)

    def _rests_on(self, table: Table, first_us: int, end_us: int) -> tuple[object, ...]:
        """Return what candles from ``first_us`` until ``end_us`` depend on in their own table."""
        near = paths_between(table, "window_start", first_us, end_us)
        return near, Seen.of(table).of_day(self._day), Taken.of(table).of_day(self._day)

    def _to_arrow(self, rows: pl.DataFrame) -> pa.Table:
        ordered = rows.select(self._schema.names).sort("symbol", "exchange", "window_start")
        return ordered.to_arrow().cast(self._schema)


def windows_of(trades: pl.DataFrame, width_us: int) -> pl.DataFrame:
    """Return the windows in which trades lie."""
    start = pl.col("timestamp").dt.truncate(f"{width_us}us").alias("window_start")
    return trades.select(*KEY, start).unique()


def without_trades(standing: pl.DataFrame, computed: pl.DataFrame, spans: list[Span]) -> pl.DataFrame:
    """Return the windows that stand in one of ``spans`` and were not computed: they have no trade any more."""
    schema = {"exchange": pl.String, "symbol": pl.String, "first_us": pl.Int64, "end_us": pl.Int64}
    judged = pl.DataFrame([vars(span) for span in spans], schema=schema)
    start_us = pl.col("window_start").to_physical()
    inside = standing.join(judged, on=KEY).filter(start_us >= pl.col("first_us"), start_us < pl.col("end_us"))
    return inside.join(computed, on=_WINDOW, how="anti").select(_WINDOW)


def merge(standing: pl.DataFrame, computed: pl.DataFrame, now: pl.Expr) -> pl.DataFrame:
    """Return the candles as they should stand: ``created_at`` kept, ``updated_at`` moved only where content differs.

    Windows that stand but were not computed are kept.

    Args:
        standing: candles with :data:`_COLUMNS`.
        computed: candles without the two times.
        now: the time of this run.
    """
    both = computed.join(standing, on=_WINDOW, how="left", suffix="_old")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_old")) for name in _CONTENT)
    stamp = now.cast(pl.Datetime("us", "UTC"))
    judged = both.with_columns(
        pl.coalesce("created_at", stamp).alias("created_at"),
        pl.when(same).then(pl.col("updated_at")).otherwise(stamp).alias("updated_at"),
    ).select(_COLUMNS)
    kept = standing.join(computed, on=_WINDOW, how="anti").select(_COLUMNS)
    return pl.concat([judged, kept])
