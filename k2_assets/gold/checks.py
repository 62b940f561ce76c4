"""The checks of a day of gold. Runs of Dagster and refine evaluate the same ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import dagster as dg

from k2_assets.gold import candle_checks, quote_checks, row_checks, trade_checks
from k2_assets.gold.candle_fitness import FIT, fitness
from k2_assets.gold.judged_day import JudgedDay
from k2_assets.gold.venue_klines import klines_of_day, same_as_venue
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.check_evaluations import evaluate_each, result
from k2_assets.orchestration.verdict import Verdict, counted
from k2_core import clock
from k2_core.lake.tables import CANDLES, GOLD, GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TRADES
from k2_core.timeframes import DAY_US


@dataclass(frozen=True)
class GoldCheck:
    """A check of one table of gold.

    Args:
        table: that it judges.
        name: of the check.
        description: what holds when it passes.
        judge: says what it finds in a day, of which all is read or the newest files.
        blocking: whether the tables made of this one wait until it passes.
        recent: it is about the newest rows: after a failure, too, it passes once these are well.
        newest_day: it fails for the newest day alone: once a newer one has rows, it passes for the days before.
        by_refine: whether refine evaluates it, and not runs by hand alone.
    """

    table: str
    name: str
    description: str
    judge: Callable[[JudgedDay], Verdict]
    blocking: bool = False
    recent: bool = False
    newest_day: bool = False
    by_refine: bool = True

    @property
    def key(self) -> dg.AssetCheckKey:
        """Dagster's key of it."""
        return dg.AssetCheckKey(dg.AssetKey(self.table), self.name)

    def definition(self, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
        """Return the check for Dagster, which a person runs for whole days."""

        @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
            asset=self.table,
            name=self.name,
            partitions_def=days,
            description=self.description,
            blocking=self.blocking,
        )
        def gold_check(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.Output[None]:
            return evaluate_each(context, lambda day: result(self.judge(JudgedDay(lake, self.table, day, whole=True))))

        return gold_check


def _unique(one: str, day: JudgedDay) -> Verdict:
    # A whole day may hold a hundred million ids: refine reads them all only after a failure.
    ids = day.rows(("message_id",))
    twice = ids.height - ids["message_id"].n_unique()
    return Verdict(
        passed=twice == 0,
        sentence=f"{counted(twice, f'repeated {one}')} among {ids.height:,} in {day.where}.",
        counts={"rows": ids.height, "repeated": twice},
        samples=ids.filter(ids.is_duplicated()).unique().sort("message_id") if twice else ids.clear(),
        severity="error",
    )


def _fit_for_candles(day: JudgedDay) -> Verdict:
    found = fitness(day.lake, day.day, whole=day.whole)
    return Verdict(
        passed=not found.unfit,
        sentence=f"{counted(found.trades, 'trade')} in {day.where}: {found}.",
        counts={"trades": found.trades, **found.unfit},
        severity="error",
    )


def _ids_go_on(day: JudgedDay) -> Verdict:
    epochs = day.epochs
    found = {
        f"{exchange} {symbol}": ", ".join(clock.from_us(start).isoformat() for start in starts)
        for exchange, symbol in epochs
        if (starts := [each for each in epochs.starts(exchange, symbol) if clock.from_us(each).date() == day.day])
    }
    listed = "; ".join(f"{name} at {when}" for name, when in sorted(found.items()))
    sentence = f"Ids begin again: {listed}." if found else "No ids begin again."
    return Verdict(passed=not found, sentence=sentence, counts=found)


def _contiguous_ids(day: JudgedDay) -> Verdict:
    return trade_checks.contiguous_ids(day.rows(trade_checks.IDS), day.where, day.epochs, day.times)


def _clock_skew(day: JudgedDay) -> Verdict:
    feeds = day.lake.settings.feeds
    return trade_checks.clock_skew(day.rows(trade_checks.RECEIVED), day.where, feeds.skew_s, feeds.stale_after_s)


def _candle_invariants(day: JudgedDay) -> Verdict:
    candles = day.candles
    broken = row_checks.broken_invariants(candles)
    found = "; ".join(f"{name}: {count:,} not" for name, count in broken.items()) or "every invariant holds"
    return Verdict(
        passed=not broken,
        sentence=f"{counted(candles.height, 'candle')}: {found}.",
        counts={"candles": candles.height, **broken},
        samples=row_checks.that_break(candles).select(row_checks.CANDLE_COLUMNS) if broken else candles.clear(),
        severity="error",
    )


def _complete_candles(day: JudgedDay) -> Verdict:
    assert day.spec.timeframe is not None  # noqa: S101  # of candles
    return candle_checks.complete_candles(day.candles, day.spec.timeframe, clock.now())


_SCOPE: Final = "Refine reads the newest files of the day and those that overlap them in time; a run by hand reads all."
GOLD_CHECKS: Final = (
    *(
        GoldCheck(
            GOLD[data].name,
            "unique_message_id",
            f"No {data.removesuffix('s')} appears twice. {_SCOPE}",
            partial(_unique, data.removesuffix("s")),
        )
        for data in GOLD
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "ids_go_on",
        "The trade ids of no instrument begin again on the day. Where they do, both trades of an id are stored, and no "
        "candle over the break is complete.",
        _ids_go_on,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        FIT,
        f"Each trade has a positive price and quantity, and a time of its day. Candles wait until they do. {_SCOPE}",
        _fit_for_candles,
        blocking=True,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "contiguous_ids",
        f"No trade id is missing between two trades of an instrument on the day. {_SCOPE}",
        _contiguous_ids,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "price_jumps",
        "No price is far from the median of the 50 trades of its instrument before it: a robust z-score of at most "
        f"{trade_checks.JUMP_SCORE:g}, and always less than 1 %. {_SCOPE}",
        lambda day: trade_checks.price_jumps(day.jumps(), day.where),
        recent=True,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "inside_spread",
        "At most 1 % of the trades lie outside the best bid and offer around them, and none by more than 1 %. Trades "
        f"without a quote of the 5 s before are not judged. {_SCOPE}",
        lambda day: trade_checks.inside_spread(day.outside_spread(), day.where),
        recent=True,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "stale_symbols",
        "No instrument that traded regularly in the half hour before the newest trade went quiet: for ten times its "
        "usual longest pause, and for two minutes.",
        lambda day: trade_checks.stale_symbols(day.last_half_hour()),
        recent=True,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "event_time_lag",
        "The newest trade is at most two minutes old; more than ten minutes are an error. Only the newest day can lag: "
        "an old day that is rebuilt makes no feed alive.",
        lambda day: trade_checks.event_time_lag(day.newest_us(), day.day, clock.now_us()),
        recent=True,
        newest_day=True,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "clock_skew",
        "In the median, the trades of no venue come before they happened (`K2_FEEDS__SKEW_S`), or very late "
        f"(`K2_FEEDS__STALE_AFTER_S`). {_SCOPE}",
        _clock_skew,
        recent=True,
    ),
    GoldCheck(
        GOLD_QUOTES.name,
        "bid_not_above_ask",
        f"At most 1 % of the quotes of an instrument, or two, have a bid above the offer. {_SCOPE}",
        lambda day: quote_checks.bid_not_above_ask(day.rows(quote_checks.SIDES), day.where),
        recent=True,
    ),
    *(
        GoldCheck(
            spec.name,
            "candle_invariants",
            "low ≤ open, close, vwap ≤ high; positive volume and count; one candle a window.",
            _candle_invariants,
        )
        for spec in CANDLES
    ),
    *(
        GoldCheck(
            spec.name,
            "complete_candles",
            "At most 1 % of the day's candles that are over are incomplete; of minutes, more than 10 % are an error.",
            _complete_candles,
        )
        for spec in CANDLES
    ),
    *(
        GoldCheck(
            spec.name,
            "equal_to_trades",
            "The candles of sampled windows equal those that gold's trades give, to the digit: of one window when "
            "refine evaluates it, of five in a run by hand.",
            lambda day: candle_checks.equal_to_rebuilt(*day.rebuilt_sample()),
            # A day of trades is too much to read every five minutes.
            by_refine=spec.timeframe is not None and spec.timeframe.width_us < DAY_US,
        )
        for spec in CANDLES
    ),
)


def _same_as_venue(day: JudgedDay) -> Verdict:
    return same_as_venue(day.candles, *klines_of_day(day.lake.settings, day.candles, day.day))


SAME_AS_VENUE: Final = GoldCheck(
    GOLD_OHLCV_1M.name,
    "same_as_venue",
    "Complete candles equal the venue's own, to the digit: those of CSV files in the folder `K2_REFERENCE__KLINES`, or "
    "those that its REST interface gives of the last four hours of the day that are over. Only by hand.",
    _same_as_venue,
    by_refine=False,
)


def gold_checks(days: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of gold's trades, quotes and candles."""
    return [each.definition(days) for each in (*GOLD_CHECKS, SAME_AS_VENUE)]
