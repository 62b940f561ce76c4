"""What is unusual about gold's trades: holes in their ids, prices that jump, silence, lag, clocks. Pure.

Numbers here are judged, never stored: prices may pass through floats.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from k2_assets.gold.instrument_rows import KEY
from k2_assets.orchestration.verdict import Verdict, are, counted, lie, percent, seconds
from k2_core import clock
from k2_core.epochs import Epochs

IDS: Final = (*KEY, "timestamp", "source_sequence")
PRICES: Final = (*IDS, "trade_id", "price")
TIMES: Final = (*KEY, "timestamp")
RECEIVED: Final = (*TIMES, "ingestion_timestamp")
QUOTED: Final = (*TIMES, "bid_price", "ask_price")

JUMP_TRADES: Final = 50  # before a trade, of which the median and the usual distance from it are taken
JUMP_SCORE: Final = 10.0
_FEWEST_BEFORE: Final = 20
_NORMAL: Final = 1.4826  # the median distance from the median of a normal distribution is 1 / 1.4826 deviations
_SMALLEST_MOVE: Final = 0.001  # in a market that does not move, one tick would be any number of deviations

QUOTE_AGE_US: Final = 5_000_000
AROUND_US: Final = 2_000_000  # quotes and trades do not come by one clock
OUTSIDE_SHARE: Final = 0.01
OUTSIDE_FAR: Final = 0.01

SILENCE_S: Final = 1800  # of which the usual pauses are taken
_FEWEST_TRADES: Final = 20
_STALE_TIMES: Final = 10
_STALE_S: Final = 120.0
_DOWN_S: Final = 60.0  # without a trade of any symbol of a venue: the feed was down, and no symbol went quiet

LAG_WARNING_S: Final = 120.0
LAG_ERROR_S: Final = 600.0
_HISTORY_DAYS: Final = 7
_LOADED_LATER: Final = timedelta(days=1)


def contiguous_ids(trades: pl.DataFrame, where: str, epochs: Epochs, times: tuple[int, int]) -> Verdict:
    """Look for ids that are missing between the trades of an instrument; ids of two epochs are not compared.

    Args:
        trades: with :data:`IDS`.
        where: what was read, for the sentence.
        epochs: of the instruments whose ids began again.
        times: the first and the last µs of which all trades were read: holes between two of them are judged. Trades of
            other times only show that an id is not missing.
    """
    numbered = trades.with_columns(pl.lit(0).alias("epoch"))
    for exchange, symbol in epochs:
        here = (pl.col("exchange") == exchange) & (pl.col("symbol") == symbol)
        for start in epochs.starts(exchange, symbol):
            later = (here & (pl.col("timestamp").to_physical() >= start)).cast(pl.Int32)
            numbered = numbered.with_columns(pl.col("epoch") + later)
    group = (*KEY, "epoch")
    holes = (
        numbered.sort(*group, "source_sequence", "timestamp")
        .with_columns(
            pl.col("source_sequence").shift(1).over(group).alias("last before"),
            pl.col("timestamp").shift(1).over(group).alias("from"),
        )
        .with_columns((pl.col("source_sequence") - pl.col("last before") - 1).alias("missing"))
        .filter(
            pl.col("missing") > 0,
            pl.col("timestamp").to_physical().is_between(*times),
            pl.col("from").to_physical().is_between(*times),
        )
        .sort("missing", descending=True)
    )
    missing = int(holes["missing"].sum())
    counts = {"trades": trades.height, "holes": holes.height, "missing trades": missing}
    if holes.is_empty():
        return Verdict(passed=True, sentence=f"No id is missing between {counted(trades.height, 'trade')} in {where}.")
    exchange, symbol, largest = holes.select(*KEY, "missing").row(0)
    return Verdict(
        passed=False,
        sentence=f"{counted(missing, 'trade')} {are(missing)} missing in {counted(holes.height, 'hole')} between the "
        f"ids of {counted(trades.height, 'trade')} in {where}; the largest, of {largest:,}, is of {exchange} {symbol}.",
        counts={**counts, "largest hole": largest},
        samples=holes.select(
            *KEY,
            "last before",
            pl.col("source_sequence").alias("first after"),
            "missing",
            pl.col("timestamp").alias("to"),
        ),
    )


@dataclass(frozen=True)
class Found:
    """What a part of a day showed: how many trades were judged, those that were found, and those that could not be."""

    judged: int
    rows: pl.DataFrame
    unjudged: int = 0

    @classmethod
    def joined(cls, parts: Iterable["Found"], by: str) -> "Found":
        """Return what all parts showed, the largest ``by`` first; at least one part."""
        found = list(parts)
        rows = pl.concat([each.rows for each in found]).sort(by, descending=True)
        return cls(sum(each.judged for each in found), rows, sum(each.unjudged for each in found))


def jumps(trades: pl.DataFrame, first_us: int = 0) -> Found:
    """Find prices far from the median of the 50 trades before: a robust z-score of the logarithm above 10.

    The usual distance from that median is taken as at least 0.1 %, so that a jump is at least 1 %.

    Args:
        trades: with :data:`PRICES`.
        first_us: trades of an earlier time only tell what is usual.
    """
    scored = (
        trades.filter(pl.col("price") > 0)
        .sort(*KEY, "timestamp", "source_sequence")
        .with_columns(pl.col("price").cast(pl.Float64).log().alias("level"))
        .with_columns(_median_before("level", _FEWEST_BEFORE).alias("usual"))
        .with_columns((pl.col("level") - pl.col("usual")).abs().alias("distance"))
        .with_columns(_median_before("distance", _FEWEST_BEFORE // 2).mul(_NORMAL).alias("spread"))
        .with_columns((pl.col("distance") / pl.col("spread").clip(lower_bound=_SMALLEST_MOVE)).alias("score"))
    )
    judged = scored.filter(pl.col("score").is_not_null(), pl.col("timestamp").to_physical() >= first_us)
    change = (pl.col("level") - pl.col("usual")).exp().sub(1).mul(100)
    rows = judged.filter(pl.col("score") > JUMP_SCORE).select(
        *(*KEY, "timestamp", "trade_id", "price"),
        pl.col("usual").exp().round_sig_figs(8).alias("usual price"),
        change.round(3).alias("change (%)"),
        pl.col("score").round(1),
    )
    return Found(judged.height, rows, trades.height - judged.height)


def _median_before(column: str, fewest: int) -> pl.Expr:
    before = pl.col(column).shift(1).over(KEY)  # a window over one instrument must not begin in another
    return before.rolling_median(JUMP_TRADES, min_samples=fewest).over(KEY)


def price_jumps(found: Found, where: str) -> Verdict:
    """Judge what :func:`jumps` found; ``where`` says of what, for the sentence."""
    said = f"The price of {counted(found.rows.height, 'trade')} of {found.judged:,} in {where} jumps"
    if found.rows.height:
        exchange, symbol, change, score = found.rows.select(*KEY, "change (%)", "score").row(0)
        said += f"; the furthest, of {exchange} {symbol}, by {change:+g} % (score {score:g})"
    return Verdict(
        passed=found.rows.is_empty(),
        sentence=f"{said}.",
        counts={"trades judged": found.judged, "jumps": found.rows.height},
        samples=found.rows,
    )


def outside_spread(trades: pl.DataFrame, quotes: pl.DataFrame) -> Found:
    """Find trades outside the best bid and offer of their instrument.

    A trade is judged if a quote at most 5 s older is there. It lies outside when it is below every bid, or above every
    offer, from that quote until 2 s after the trade: an order that takes several levels is seen in the quotes after it.

    Args:
        trades: with :data:`PRICES`.
        quotes: with :data:`QUOTED`, of the times of the trades and around them.
    """
    both_sides = (
        quotes.drop_nulls(["bid_price", "ask_price"])
        .select(
            *TIMES, pl.col("bid_price").cast(pl.Float64).alias("bid"), pl.col("ask_price").cast(pl.Float64).alias("ask")
        )
        .sort("timestamp")
        .with_columns(pl.col("timestamp").alias("quoted"))
    )
    around = timedelta(microseconds=AROUND_US)
    near = both_sides.select(
        *(*KEY, pl.col("timestamp").alias("until")),
        pl.col("bid").rolling_min_by("timestamp", around * 2, closed="both").over(KEY).alias("lowest bid"),
        pl.col("ask").rolling_max_by("timestamp", around * 2, closed="both").over(KEY).alias("highest ask"),
    )
    judged = (
        trades.select(*TIMES, "trade_id", "price", pl.col("price").cast(pl.Float64).alias("paid"))
        .sort("timestamp")
        .with_columns((pl.col("timestamp") + around).alias("until"))
        .join_asof(
            both_sides, on="timestamp", by=KEY, tolerance=timedelta(microseconds=QUOTE_AGE_US), check_sortedness=False
        )
        .drop_nulls("quoted")
        .join_asof(near, on="until", by=KEY, check_sortedness=False)
        .with_columns(pl.min_horizontal("bid", "lowest bid"), pl.max_horizontal("ask", "highest ask"))
    )
    bid, ask, paid = pl.col("bid"), pl.col("ask"), pl.col("paid")
    by = pl.max_horizontal((bid - paid) / bid, (paid - ask) / ask)
    rows = judged.with_columns(by.alias("outside by")).filter(pl.col("outside by") > 0)
    return Found(
        judged.height,
        rows.select(*KEY, "timestamp", "trade_id", "price", "bid", "ask", "outside by"),
        trades.height - judged.height,
    )


def inside_spread(found: Found, where: str) -> Verdict:
    """Judge what :func:`outside_spread` found: up to 1 % of the trades may lie outside by up to 1 %."""
    outside = found.rows.height
    furthest = float(found.rows["outside by"][0]) if outside else 0.0
    said = f"{counted(outside, 'trade')} of {found.judged:,}"
    said += f" ({percent(outside, found.judged)})" if outside else ""
    said += f" in {where} {lie(outside)} outside the spread"
    said += f"; the furthest by {percent(furthest, 1)}" if outside else ""
    said += f"; for {found.unjudged:,} there is no quote of the 5 s before" if found.unjudged else ""
    return Verdict(
        passed=outside <= OUTSIDE_SHARE * found.judged and furthest <= OUTSIDE_FAR,
        sentence=f"{said}.",
        counts={"trades judged": found.judged, "outside": outside, "without a recent quote": found.unjudged},
        samples=found.rows.with_columns((pl.col("outside by") * 100).round(3)).rename({"outside by": "outside by (%)"}),
    )


def stale_symbols(trades: pl.DataFrame) -> Verdict:
    """Look for instruments that traded regularly within the last half hour and then no more.

    An instrument is stale when it is quiet for ten times its usual longest pause (of 95 %), and for two minutes. The
    pauses are counted from when its venue last came back, so that a feed that was down makes nothing stale.

    Args:
        trades: with :data:`TIMES`, of the half hour before the newest of them.
    """
    if trades.is_empty():
        return Verdict(passed=True, sentence="There is no trade.")
    end = trades["timestamp"].max()
    pause = pl.col("timestamp").diff().dt.total_microseconds() / clock.US_PER_SECOND
    back = (
        trades.sort("exchange", "timestamp")
        .with_columns(pause.over("exchange").alias("pause"))
        .group_by("exchange")
        .agg(pl.col("timestamp").filter(pl.col("pause") > _DOWN_S).max().alias("back"))
    )
    instruments = (
        trades.join(back, on="exchange")
        .filter(pl.col("back").is_null() | (pl.col("timestamp") >= pl.col("back")))
        .sort(*KEY, "timestamp")
        .with_columns(pause.over(KEY).alias("pause"))
        .group_by(KEY)
        .agg(
            pl.len().alias("trades"),
            pl.col("pause").quantile(0.95).alias("usual pause (s)"),
            pl.col("timestamp").max().alias("last trade"),
        )
        .with_columns(((end - pl.col("last trade")).dt.total_microseconds() / clock.US_PER_SECOND).alias("quiet (s)"))
    )
    regular = instruments.filter(pl.col("trades") >= _FEWEST_TRADES)
    limit = pl.max_horizontal(pl.lit(_STALE_S), _STALE_TIMES * pl.col("usual pause (s)"))
    stale = regular.filter(pl.col("quiet (s)") > limit).sort("quiet (s)", descending=True)
    counts = {"instruments": instruments.height, "that trade regularly": regular.height, "stale": stale.height}
    said = f"{counted(stale.height, 'instrument')} of {regular.height:,} that trade regularly went quiet"
    if stale.is_empty():
        return Verdict(passed=True, sentence=f"{said}.".capitalize(), counts=counts)
    exchange, symbol, quiet_s, usual_s = stale.select(*KEY, "quiet (s)", "usual pause (s)").row(0)
    return Verdict(
        passed=False,
        sentence=f"{said}: {exchange} {symbol} has not traded for {seconds(quiet_s)}, and usually pauses for at most "
        f"{seconds(usual_s)}.",
        counts=counts,
        samples=stale.select(*KEY, "last trade", pl.col("quiet (s)", "usual pause (s)").round(3), "trades"),
    )


def event_time_lag(newest_us: int | None, day: date, now_us: int) -> Verdict:
    """Compare the newest trade of the table with the clock.

    Args:
        newest_us: its event time; None while there is none.
        day: that is judged. A day before the newest trade's is over; so is one of more than a week ago.
        now_us: by our clock.
    """
    if newest_us is None:
        return Verdict(passed=True, sentence="There is no trade.")
    newest, today = clock.from_us(newest_us), clock.from_us(now_us).date()
    if day < newest.date() or day < today - timedelta(days=_HISTORY_DAYS):
        return Verdict(passed=True, sentence=f"{day} is over: only the newest day can lag.")
    lag_s = (now_us - newest_us) / clock.US_PER_SECOND
    return Verdict(
        passed=lag_s <= LAG_WARNING_S,
        sentence=f"The newest trade is of {newest:%Y-%m-%d %H:%M:%S}Z, {seconds(lag_s)} ago.",
        counts={"lag (s)": round(lag_s, 3)},
        severity="error" if lag_s > LAG_ERROR_S else "warning",
    )


def clock_skew(trades: pl.DataFrame, where: str, ahead_s: float, late_s: float) -> Verdict:
    """Compare when trades were received with when they happened, by venue.

    Args:
        trades: with :data:`RECEIVED`. What was received more than a day after it happened, or before, was loaded later
            and is not judged.
        where: what was read, for the sentence.
        ahead_s: so far a venue's clock may be ahead of ours.
        late_s: so late trades of a venue may come, in the median.
    """
    later = pl.col("ingestion_timestamp") - pl.col("timestamp")
    judged = trades.with_columns(later.alias("later")).filter(pl.col("later").abs() <= _LOADED_LATER)
    us = pl.col("later").dt.total_microseconds() / clock.US_PER_SECOND
    venues = (
        judged.group_by("exchange")
        .agg(
            us.median().round(3).alias("median (s)"),
            us.min().round(3).alias("smallest (s)"),
            us.max().round(3).alias("largest (s)"),
            pl.len().alias("trades"),
        )
        .sort("exchange")
    )
    bad = venues.filter((pl.col("median (s)") < -ahead_s) | (pl.col("median (s)") > late_s))
    said = ", ".join(
        f"{exchange} {seconds(abs(median))} {'after' if median >= 0 else 'before'} they happened"
        for exchange, median in (bad if bad.height else venues).select("exchange", "median (s)").iter_rows()
    )
    loaded = trades.height - judged.height
    return Verdict(
        passed=bad.is_empty(),
        sentence=(f"In the median, trades in {where} were received: {said}." if said else "No trade is judged.")
        + (f" {counted(loaded, 'trade')} loaded later {are(loaded)} not judged." if loaded else ""),
        counts={"trades judged": judged.height, "loaded later": loaded},
        samples=venues,
    )
