"""What is unusual about gold's quotes: bids above offers. Pure."""

from typing import Final

import polars as pl

from k2_assets.gold.instrument_rows import KEY
from k2_assets.orchestration.verdict import Verdict, are, counted, percent

SIDES: Final = (*KEY, "timestamp", "quote_id", "bid_price", "ask_price")
CROSSED_SHARE: Final = 0.01
_FEWEST: Final = 3  # one or two of an instrument that is seldom quoted are many per cent, and nothing to look at


def bid_not_above_ask(quotes: pl.DataFrame, where: str) -> Verdict:
    """Count the quotes of each instrument whose bid is above the offer: up to two, or 1 % of them, pass.

    Args:
        quotes: with :data:`SIDES`; one of which a side is missing is not crossed.
        where: what was read, for the sentence.
    """
    crossed = quotes.filter(pl.col("bid_price") > pl.col("ask_price"))
    is_crossed = (pl.col("bid_price") > pl.col("ask_price")).fill_null(value=False)
    shares = quotes.group_by(KEY).agg(pl.len().alias("quotes"), is_crossed.sum().alias("crossed"))
    often = shares.filter(pl.col("crossed") >= _FEWEST, pl.col("crossed") > CROSSED_SHARE * pl.col("quotes"))
    worst = often.sort(pl.col("crossed") / pl.col("quotes"), *KEY, descending=[True, False, False])
    said = f"{counted(crossed.height, 'quote')} of {quotes.height:,} in {where} {are(crossed.height)} crossed"
    if worst.height:
        exchange, symbol, of, many = worst.select(*KEY, "quotes", "crossed").row(0)
        said += f", more than {percent(CROSSED_SHARE, 1)} of {counted(worst.height, 'instrument')}: of {exchange} "
        said += f"{symbol} {many:,} of {of:,} ({percent(many, of)})"
    return Verdict(
        passed=worst.is_empty(),
        sentence=f"{said}.",
        counts={"quotes": quotes.height, "crossed": crossed.height, "instruments crossed too often": worst.height},
        samples=(crossed.join(worst, on=KEY, how="semi") if worst.height else crossed).select(SIDES),
    )
