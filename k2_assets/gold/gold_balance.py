"""Whether gold holds what silver holds, each once, and candles add up to gold: a day as sets, in DuckDB."""

from collections.abc import Iterable
from datetime import date, timedelta
from functools import partial
from typing import Any, Final

import polars as pl
import pyarrow as pa
from duckdb import DuckDBPyConnection

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.row_filters import day_bounds_us, time_between
from k2_assets.lake.source_files import Seen, as_frame, live_files
from k2_assets.orchestration.balance_check import BalanceCheck
from k2_assets.orchestration.verdict import SAMPLE_ROWS, Verdict, are, counted
from k2_core import clock
from k2_core.lake.planned_read import stream
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import CANDLES, GOLD, GOLD_TRADES
from k2_core.timeframes import MINUTE_US
from k2_core.venues.routing import Data

_IDS: Final = ("exchange", "message_id")
_COUNTED: Final = ("silver", "duplicates", "gold", "beside", "missing", "unknown", "repeated")
_SETTLES_US: Final = 10 * MINUTE_US


def id_balance(database: DuckDBPyConnection, silver: Iterable[Any], gold: Any, beside: Iterable[Any]) -> pl.DataFrame:
    """Compare the ids of a day, by exchange.

    Args:
        database: in which they are compared; tables of it are made.
        silver: Arrow tables or readers of ``exchange`` and ``message_id``, of silver's rows of the day.
        gold: the same of gold's.
        beside: the same of gold's rows of the days beside it: a quote stamped at receipt may be stored there.

    Returns:
        A row for each exchange: ``silver``, ``duplicates``, ``gold`` rows, those stored on the days ``beside``, those
        ``missing`` in gold, those that silver does not have (``unknown``), and ``repeated`` ones in gold; and an id of
        the missing, the unknown or the repeated ones.
    """
    ids = "exchange, cast(message_id as uuid) as id"
    for name in ("silver", "gold", "beside"):
        database.execute(f"create temp table {name} (exchange text, id uuid, copies bigint)")
    for name, parts in (("silver", silver), ("gold", [gold])):
        for rows in parts:
            database.register("arriving", rows)
            database.execute(f"insert into {name} select {ids}, count(*) from arriving group by all")  # noqa: S608  # no text of others
            database.unregister("arriving")
    database.execute("create temp table absent as select exchange, id from silver anti join gold using (exchange, id)")
    for rows in beside:
        database.register("arriving", rows)
        database.execute(
            f"insert into beside select exchange, id, 1 from (select {ids} from arriving) "  # noqa: S608
            "semi join absent using (exchange, id)"
        )
        database.unregister("arriving")
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint as {name}" for name in _COUNTED)
    found = database.sql(
        f"""
        with counts as (
            select exchange, sum(copies) as silver, sum(copies - 1) as duplicates, 0 as gold, 0 as beside, 0 as missing,
                0 as unknown, 0 as repeated, null as example from silver group by exchange
            union all by name
            select exchange, sum(copies) as gold, sum(copies - 1) as repeated,
                any_value(id) filter (copies > 1) as example from gold group by exchange
            union all by name
            select exchange, count(distinct id) as beside from beside group by exchange
            union all by name
            select exchange, count(*) as missing, any_value(id) as example
                from (from absent anti join beside using (exchange, id)) group by exchange
            union all by name
            select exchange, count(*) as unknown, any_value(id) as example
                from (from gold anti join silver using (exchange, id)) group by exchange
        )
        select exchange, {sums},
            any_value(example)::text as example
        from counts group by exchange order by exchange
        """  # noqa: S608
    )
    return as_frame(found.to_arrow_table())


def same_as_silver(one: str, found: pl.DataFrame, day: date) -> Verdict:
    """Judge what :func:`id_balance` found; ``one`` is what a row is."""
    totals = found.sum()
    silver, duplicates, gold, beside, missing, unknown, repeated = (int(totals[name][0] or 0) for name in _COUNTED)
    said = f"Of {counted(silver, 'row')} of silver of {day}, {duplicates:,} are duplicates and {gold:,} are in gold"
    said += f", {beside:,} on a day beside it" if beside else ""
    said += f": {counted(missing, one)} {are(missing)} missing in gold"
    said += f"; {counted(unknown, one)} of gold {are(unknown)} not in silver" if unknown else ""
    said += f"; {counted(repeated, one)} {are(repeated)} repeated in gold" if repeated else ""
    return Verdict(
        passed=not (missing or unknown or repeated),
        sentence=f"{said}.",
        counts={"silver": silver, "duplicates": duplicates, "gold": gold, "missing": missing, "unknown": unknown},
        samples=found,
        severity="error",
    )


def sum_balance(database: DuckDBPyConnection, trades: Any, candles: Any) -> pl.DataFrame:
    """Add up trades and candles by instrument, exactly, and return the instruments that differ.

    Args:
        database: in which they are compared.
        trades: ``exchange``, ``symbol`` and ``quantity``.
        candles: ``exchange``, ``symbol``, ``trade_count`` and ``volume``.
    """
    database.register("trades", trades)
    database.execute(
        "create temp table of_trades as select exchange, symbol, count(*)::bigint as trades, sum(quantity) as quantity "
        "from trades group by all"
    )
    database.register("candles", candles)
    found = database.sql(
        """
        with of_candles as (
            select exchange, symbol, sum(trade_count)::bigint as counted, sum(volume) as volume
            from candles group by all
        )
        select exchange, symbol, trades, counted as "trades of candles", quantity, volume as "volume of candles"
        from of_trades full join of_candles using (exchange, symbol)
        where trades is distinct from counted or quantity is distinct from volume order by exchange, symbol
        """
    )
    return as_frame(found.to_arrow_table())


def same_as_trades(differ: pl.DataFrame, until: str) -> Verdict:
    """Judge what :func:`sum_balance` found of the candles of the windows ``until`` a time."""
    said = f"Volume and count of the candles {until} equal those of gold's trades, of each instrument."
    if differ.height:
        said = (
            f"Volume or count of the candles {until} differ from gold's trades: {counted(differ.height, 'instrument')}."
        )
    return Verdict(
        passed=differ.is_empty(),
        sentence=said,
        counts={"instruments that differ": differ.height},
        samples=differ.head(SAMPLE_ROWS),
        severity="error",
    )


def _judge_ids(data: Data, lake: Lake, database: DuckDBPyConnection, day: date) -> Verdict:
    # Gold first: then silver holds all that gold has taken in. What came since is not judged.
    spec = GOLD[data]
    gold = lake.table(spec.name)
    seen, sources = Seen.of(gold), [lake.table(name) for name in spec.made_from]

    def of_day(each: date) -> pa.RecordBatchReader:
        return stream(gold, live_files(gold, "timestamp", day=each), _IDS)

    silver = []
    for source in sources:
        files = live_files(source, "timestamp", day=day)
        newer = {each.path for each in seen.newer(source, files)}
        silver.append(stream(source, [each for each in files if each.path not in newer], _IDS))
    days = [day + timedelta(days=step) for step in (-1, 1)]
    return same_as_silver(
        data.removesuffix("s"), id_balance(database, silver, of_day(day), (of_day(each) for each in days)), day
    )


def _judge_sums(spec: TableSpec, lake: Lake, database: DuckDBPyConnection, day: date) -> Verdict:
    assert spec.timeframe is not None  # noqa: S101  # of candles
    first_us, end_us = day_bounds_us(day)
    settled_us = clock.now_us() - _SETTLES_US
    until_us = max(first_us, min(end_us, settled_us - settled_us % spec.timeframe.width_us))

    def rows(table_of: TableSpec, columns: tuple[str, ...]) -> pa.RecordBatchReader:
        table = lake.table(table_of.name)
        where = time_between(table_of.partition_by, first_us, until_us)
        return stream(table, live_files(table, table_of.partition_by, day=day), columns, where)

    candles = rows(spec, ("exchange", "symbol", "trade_count", "volume"))
    differ = sum_balance(database, rows(GOLD_TRADES, ("exchange", "symbol", "quantity")), candles)
    return same_as_trades(
        differ, f"of {day}" if until_us == end_us else f"until {clock.from_us(until_us):%H:%M} of {day}"
    )


GOLD_BALANCES: Final = (
    *(
        BalanceCheck(
            GOLD[data].name,
            "same_as_silver",
            f"Gold holds each {data.removesuffix('s')} that it took in from silver, once: silver = gold + duplicates.",
            partial(_judge_ids, data),
        )
        for data in GOLD
    ),
    *(
        BalanceCheck(
            spec.name,
            "same_as_trades",
            "Volume and count of the day's candles add up to those of gold's trades, of each instrument, to the digit.",
            partial(_judge_sums, spec),
        )
        for spec in CANDLES
    ),
)
