"""Is silver what it says it is? Schema and ranges, by pandera, on collected data: a lazy frame would not be judged."""

from decimal import Decimal
from typing import Annotated, Final

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from k2_core.trades import PRICE_PRECISION, PRICE_SCALE, QUANTITY_PRECISION, QUANTITY_SCALE

NAME: Final = "schema_and_ranges"
JUDGED: Final = ("message_id", "symbol", "exchange", "timestamp", "price", "quantity", "side", "source_sequence")
_UUID5: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


class SilverTrades(pa.DataFrameModel):
    """What holds of every row of a silver trades table."""

    message_id: str = pa.Field(str_matches=_UUID5)
    symbol: str = pa.Field(str_matches=r"^[^\Wa-z_]{2,}$")  # letters of any script, digits
    exchange: str = pa.Field(str_matches=r"^[a-z0-9_]+$")
    timestamp: Annotated[pl.Datetime, "us", "UTC"]
    price: Annotated[pl.Decimal, PRICE_PRECISION, PRICE_SCALE] = pa.Field(gt=Decimal(0))
    quantity: Annotated[pl.Decimal, QUANTITY_PRECISION, QUANTITY_SCALE] = pa.Field(gt=Decimal(0))
    side: str = pa.Field(isin=["BUY", "SELL", "SELL_SHORT", "UNKNOWN"])
    source_sequence: int = pa.Field(ge=0)


def faults(rows: pl.DataFrame) -> pl.DataFrame:
    """Return what is wrong with rows of silver: columns ``column``, ``check``, ``failures``; empty when all is well."""
    try:
        SilverTrades.validate(rows.select(JUDGED), lazy=True)
    except SchemaErrors as errors:
        cases: pl.DataFrame = errors.failure_cases
        return cases.group_by("column", "check").agg(pl.len().alias("failures")).sort("column", "check")
    return pl.DataFrame(schema={"column": pl.String, "check": pl.String, "failures": pl.UInt32})
