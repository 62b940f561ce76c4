"""The checks of silver: schema and ranges, by pandera, on collected data: a lazy frame would not be judged."""

from datetime import date
from decimal import Decimal
from functools import partial
from typing import Annotated, Final

import dagster as dg
import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files
from k2_assets.orchestration.asset_metadata import table_metadata
from k2_assets.orchestration.balance_check import BalanceCheck
from k2_assets.orchestration.check_evaluations import evaluate_each, result
from k2_assets.orchestration.verdict import counted
from k2_assets.silver import reject_rate
from k2_assets.silver.frame_balance import same_as_bronze
from k2_assets.silver.reject_rate import Rejects
from k2_core.lake import tables
from k2_core.topics import raw_topic
from k2_core.trades import PRICE_PRECISION, PRICE_SCALE, QUANTITY_PRECISION, QUANTITY_SCALE
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

NAME: Final = "schema_and_ranges"
_UUID5: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


class _Silver(pa.DataFrameModel):
    """What holds of every row of silver."""

    message_id: str = pa.Field(str_matches=_UUID5)
    symbol: str = pa.Field(str_matches=r"^[^\Wa-z_]{2,}$")  # letters of any script, digits
    exchange: str = pa.Field(str_matches=r"^[a-z0-9_]+$")
    timestamp: Annotated[pl.Datetime, "us", "UTC"]


class SilverTrades(_Silver):
    """What holds of every row of a silver trades table."""

    price: Annotated[pl.Decimal, PRICE_PRECISION, PRICE_SCALE] = pa.Field(gt=Decimal(0))
    quantity: Annotated[pl.Decimal, QUANTITY_PRECISION, QUANTITY_SCALE] = pa.Field(gt=Decimal(0))
    side: str = pa.Field(isin=["BUY", "SELL", "SELL_SHORT", "UNKNOWN"])
    source_sequence: int = pa.Field(ge=0)


class SilverQuotes(_Silver):
    """What holds of every row of a silver quotes table; a side may be missing, and bid may be above ask."""

    bid_price: Annotated[pl.Decimal, PRICE_PRECISION, PRICE_SCALE] = pa.Field(gt=Decimal(0), nullable=True)
    bid_quantity: Annotated[pl.Decimal, QUANTITY_PRECISION, QUANTITY_SCALE] = pa.Field(gt=Decimal(0), nullable=True)
    ask_price: Annotated[pl.Decimal, PRICE_PRECISION, PRICE_SCALE] = pa.Field(gt=Decimal(0), nullable=True)
    ask_quantity: Annotated[pl.Decimal, QUANTITY_PRECISION, QUANTITY_SCALE] = pa.Field(gt=Decimal(0), nullable=True)
    source_sequence: int = pa.Field(ge=0, nullable=True)


_MODELS: Final[dict[Data, type[_Silver]]] = {"trades": SilverTrades, "quotes": SilverQuotes}
JUDGED: Final[dict[Data, list[str]]] = {data: list(model.to_schema().columns) for data, model in _MODELS.items()}


def faults(rows: pl.DataFrame, data: Data = "trades") -> pl.DataFrame:
    """Return what is wrong with rows of silver: ``column``, ``check``, ``failures``, ``example``; nothing: no rows."""
    # lazy: pandera collects all faults, instead of raising at the first one.
    try:
        _MODELS[data].validate(rows.select(JUDGED[data]), lazy=True)
    except SchemaErrors as errors:
        cases: pl.DataFrame = errors.failure_cases
        example = pl.col("failure_case").cast(pl.String).first().alias("example")
        return cases.group_by("column", "check").agg(pl.len().alias("failures"), example).sort("column", "check")
    texts = dict.fromkeys(("column", "check", "example"), pl.String)
    return pl.DataFrame(schema={**texts, "failures": pl.UInt32}).select("column", "check", "failures", "example")


def sentence(rows: int, faults: int, which: str) -> str:
    """Describe what was judged and found, as in "1,234 rows of 2024-08-09: no fault."."""
    return f"{counted(rows, 'row')} {which}: {counted(faults, 'fault')}."


def silver_check(venue: Venue, data: Data, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Return the check of a venue's silver; the drain evaluates it for every batch it commits as well."""
    spec = tables.silver(venue.VENUE, data)
    known = ", known sides" if data == "trades" else " where a side is there"

    @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
        asset=spec.name,
        name=NAME,
        partitions_def=days,
        description=f"Schema, ids, positive prices and sizes{known}. The drain judges every batch; run by hand, it "
        "reads the day.",
    )
    def schema_and_ranges(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.Output[None]:
        def judge(day: date) -> dg.AssetCheckResult:
            rows = lake.rows_of_day(spec, day, tuple(JUDGED[data]))
            return silver_result(rows, day, data)

        return evaluate_each(context, judge)

    return schema_and_ranges


def reject_rate_check(venue: Venue, data: Data, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Return the check of how much is rejected; the drain evaluates it for what it commits, over the last minutes."""
    spec, rejected = tables.silver(venue.VENUE, data), tables.silver_rejected(venue.VENUE)
    topic = raw_topic(venue.ASSET_CLASS, data, venue.VENUE)

    @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
        asset=spec.name,
        name=reject_rate.NAME,
        partitions_def=days,
        description=f"At most 0.1 % of what {venue.VENUE} sends on its topic of {data} is rejected; more than 1 % is "
        "an error. The drain judges the last five minutes with each commit; run by hand, it judges the day.",
    )
    def share_of_rejected(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.Output[None]:
        def judge(day: date) -> dg.AssetCheckResult:
            rows = sum(each.rows for each in live_files(lake.table(spec.name), spec.partition_by, day=day))
            of_day = lake.rows_of_day(rejected, day, reject_rate.SAMPLED)
            found = Rejects.of(rows, of_day.filter(pl.col("kafka_topic") == topic))
            return result(found.verdict(f"of {day}"))

        return evaluate_each(context, judge)

    return share_of_rejected


def silver_balance(venue: Venue, data: Data) -> BalanceCheck:
    """Return the check that each message of bronze is in silver or in rejected, or is a control frame."""
    return BalanceCheck(
        tables.silver(venue.VENUE, data).name,
        "same_as_bronze",
        "Each message that was received on the day is in silver or in rejected, or is a control frame: by frame.",
        partial(same_as_bronze, venue, data),
    )


def silver_result(rows: pl.DataFrame, day: date, data: Data = "trades") -> dg.AssetCheckResult:
    """Judge the rows of a day of silver."""
    found = faults(rows, data)
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        check_name=NAME,
        description=sentence(rows.height, int(found["failures"].sum()), f"of {day}"),
        metadata={"rows": rows.height, "faults": table_metadata(found, found.columns)},
    )
