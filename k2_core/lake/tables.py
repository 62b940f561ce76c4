"""One TableSpec per Iceberg table: columns with their meaning, partition, properties. Nothing here opens a table."""

from collections.abc import Iterable
from typing import Final, get_args

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    IntegerType,
    LongType,
    StringType,
    TimestamptzType,
)

from k2_core.lake.table_spec import DRAINED, LIST_OF_TEXTS, MAP_OF_TEXTS, Column, TableSpec, counted, uncounted
from k2_core.timeframes import DAY_US, ONE_MINUTE, TIMEFRAMES, Timeframe
from k2_core.topics import FEED_EVENTS, raw_topic
from k2_core.trades import PRICE_PRECISION, PRICE_SCALE, QUANTITY_PRECISION, QUANTITY_SCALE
from k2_core.venues import VENUES
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

DATA: Final[tuple[Data, ...]] = get_args(Data)
"""What each venue has a topic, a bronze and a silver table of."""

_TEXT: Final = StringType()
_LONG: Final = LongType()
_INT: Final = IntegerType()
_TIME: Final = TimestamptzType()
_PRICE: Final = DecimalType(PRICE_PRECISION, PRICE_SCALE)
_QUANTITY: Final = DecimalType(QUANTITY_PRECISION, QUANTITY_SCALE)

_FRAME_ORIGIN = (
    Column("topic_id", _TEXT, "Kafka's UUID of the topic; a topic created again has another"),
    Column("kafka_partition", _INT, "partition of the topic"),
    Column("kafka_offset", _LONG, "offset in the partition"),
)
_ORIGIN = (
    Column("kafka_topic", _TEXT, "topic that the frame is in"),
    *_FRAME_ORIGIN,
    Column("frame_index", _INT, "position of the trade or quote in its frame, from 0"),
)
_RECEIVED: Final = Column("received_ns", _LONG, "when the feed received the frame, ns since 1970 (UTC)")
_APPENDED: Final = Column("kafka_timestamp", _TIME, "when the broker appended the message (UTC)")
_KEY: Final = Column("key", BinaryType(), "the message's key; null if it has none", required=False)
_FRAME: Final = ("topic_id", "kafka_partition", "kafka_offset")
_PLACE: Final = (*_FRAME, "frame_index")

TRADE_COLUMNS = (
    Column(
        "message_id", _TEXT, "UUIDv5 of (exchange, symbol, trade_id), and of the epoch's start where ids began again"
    ),
    Column("trade_id", _TEXT, "the venue's id of the trade"),
    Column("symbol", _TEXT, "base + quote, upper case, modern codes: BTCUSDT"),
    Column("exchange", _TEXT, "the market: binance is Binance spot"),
    Column("asset_class", _TEXT, "equities, crypto, futures or options"),
    Column("timestamp", _TIME, "when the trade happened, by the venue's clock (UTC, µs)"),
    Column("price", _PRICE, "exactly as the venue wrote it"),
    Column("quantity", _QUANTITY, "in units of the base asset, exactly as the venue wrote it"),
    Column("currency", _TEXT, "the quote asset, in which the price is given"),
    Column("side", _TEXT, "the aggressor's: BUY, SELL, SELL_SHORT or UNKNOWN"),
    Column("trade_conditions", LIST_OF_TEXTS, "the venue's condition codes"),
    Column("source_sequence", _LONG, "the venue's trade id as an integer"),
    Column("ingestion_timestamp", _TIME, "received_ns in microseconds (UTC)"),
    Column("platform_sequence", _LONG, "the Kafka offset"),
    Column("vendor_data", MAP_OF_TEXTS, "other fields of the venue's message, as text"),
)
QUOTE_COLUMNS = (
    Column("message_id", _TEXT, "UUIDv5 of (exchange, symbol, quote_id)"),
    Column("quote_id", _TEXT, "the venue's id (Binance: u), else the SHA-256 of its time, bid and ask"),
    Column("symbol", _TEXT, "base + quote, upper case, modern codes: BTCUSDT"),
    Column("exchange", _TEXT, "the market: binance is Binance spot"),
    Column("asset_class", _TEXT, "equities, crypto, futures or options"),
    Column("timestamp", _TIME, "when the quote was made, by the venue's clock; the receipt where it gives no time"),
    Column("bid_price", _PRICE, "best bid, exactly as the venue wrote it; null if nobody bids", required=False),
    Column("bid_quantity", _QUANTITY, "in units of the base asset; null if nobody bids", required=False),
    Column("ask_price", _PRICE, "best offer, exactly as the venue wrote it; null if nobody offers", required=False),
    Column("ask_quantity", _QUANTITY, "in units of the base asset; null if nobody offers", required=False),
    Column("currency", _TEXT, "the quote asset, in which prices are given"),
    Column("source_sequence", _LONG, "Binance's u, which orders its quotes; null: by timestamp", required=False),
    Column("ingestion_timestamp", _TIME, "received_ns in microseconds (UTC)"),
    Column("platform_sequence", _LONG, "the Kafka offset"),
    Column(
        "vendor_data", MAP_OF_TEXTS, "condition: crossed, locked, one_sided or empty; published_us: the message's time"
    ),
)
_COLUMNS: Final[dict[Data, tuple[Column, ...]]] = {"trades": TRADE_COLUMNS, "quotes": QUOTE_COLUMNS}


_UNREAD: Final = (
    "why nothing was read from the message: a reason of rejection, a colon, what was found; null if it was read, and "
    "in rows from before this column"
)


_BRONZE_DAYS: Final = {"binance": 7}


def bronze(venue: str, data: Data) -> TableSpec:
    """Return the table of a venue's frames on its topic of trades or quotes, byte for byte."""
    one = data.removesuffix("s")
    return TableSpec(
        f"bronze_{venue}_{data}",
        f"Every Kafka message of {venue}'s {data} topic, verbatim, and where it came from.",
        (
            Column("topic", _TEXT, "Kafka topic"),
            *_FRAME_ORIGIN,
            _APPENDED,
            _KEY,
            Column("schema_id", _INT, "registry's id of the envelope's schema; null if unreadable", required=False),
            Column("venue", _TEXT, "from the envelope; null if unreadable", required=False),
            Column("channel", _TEXT, "trade, quote, control, …; null if the envelope is unreadable", required=False),
            Column("symbol", _TEXT, "the venue's own symbol; null if unreadable", required=False),
            Column("connection_id", _TEXT, "the feed's connection; null if unreadable", required=False),
            Column("connection_seq", _LONG, "position in the connection; null if unreadable", required=False),
            Column("received_ns", _LONG, "receipt by the feed, ns since 1970; null if unreadable", required=False),
            Column("payload", BinaryType(), "the frame; the whole Kafka value if the envelope is unreadable"),
            Column("min_event_ts", _TIME, f"earliest {one} time in the frame; null if it has none", required=False),
            Column("max_event_ts", _TIME, f"latest {one} time in the frame; null if it has none", required=False),
            Column("ingestion_timestamp", _TIME, "received_ns in µs; kafka_timestamp if unreadable"),
            Column("unread", _TEXT, _UNREAD, required=False),
        ),
        "ingestion_timestamp",
        {
            **DRAINED,
            **counted("key", "venue", "channel", "symbol", "connection_id", "unread"),
            **uncounted("payload"),
        },
        sort_by=_FRAME,
        retention_days=_BRONZE_DAYS.get(venue, 14),
    )


def bronze_trades(venue: str) -> TableSpec:
    """Return the table of a venue's frames on its trades topic."""
    return bronze(venue, "trades")


def silver(venue: str, data: Data) -> TableSpec:
    """Return the table of a venue's trades or quotes, parsed and validated; it may repeat one."""
    return TableSpec(
        f"silver_{venue}_{data}",
        f"Every {data.removesuffix('s')} of {venue}, parsed and validated; repeats of the venue are kept.",
        (*_COLUMNS[data], *_ORIGIN, _RECEIVED),
        "timestamp",
        DRAINED,
        sort_by=("timestamp", *_PLACE),
        made_from=(bronze(venue, data).name,),
        retention_days=30,
    )


def silver_trades(venue: str) -> TableSpec:
    """Return the table of a venue's trades."""
    return silver(venue, "trades")


_REJECTED_PAYLOAD: Final = (
    "the frame, or the whole Kafka value if the envelope is unreadable; empty where error names the row that holds it"
)


def silver_rejected(venue: str) -> TableSpec:
    """Return the table of what could not become silver, with the reason and the bytes."""
    return TableSpec(
        f"silver_{venue}_rejected",
        f"What {venue} sent that could not become a row of silver: reason, error and bytes.",
        (
            *_ORIGIN,
            Column("received_ns", _LONG, "receipt by the feed, ns since 1970; null if unreadable", required=False),
            Column("ingestion_timestamp", _TIME, "received_ns in µs; Kafka's time if unreadable"),
            Column("reason", _TEXT, "one of the reasons listed in the data dictionary"),
            Column("error", _TEXT, "what was found, for a person"),
            Column("payload", BinaryType(), _REJECTED_PAYLOAD),
        ),
        "ingestion_timestamp",
        {**DRAINED, **counted("error"), **uncounted("payload")},
        sort_by=_PLACE,
        made_from=tuple(bronze(venue, data).name for data in DATA),
        retention_days=90,
    )


GOLD_TRADES = TableSpec(
    "gold_crypto_trades",
    "Every trade of every crypto venue, each exactly once.",
    TRADE_COLUMNS,
    "timestamp",
    DRAINED,
    sort_by=("symbol", "exchange", "timestamp", "source_sequence", "trade_id"),
    made_from=tuple(silver(venue, "trades").name for venue in VENUES),
)

GOLD_QUOTES = TableSpec(
    "gold_crypto_quotes",
    "Every quote of every crypto venue, the best bid and offer as it changed, each exactly once.",
    QUOTE_COLUMNS,
    "timestamp",
    DRAINED,
    sort_by=("symbol", "exchange", "source_sequence", "timestamp", "quote_id"),
    made_from=tuple(silver(venue, "quotes").name for venue in VENUES),
)

GOLD: Final[dict[Data, TableSpec]] = {"trades": GOLD_TRADES, "quotes": GOLD_QUOTES}

BRONZE_FEED_EVENTS = TableSpec(
    "bronze_feed_events",
    "What happened to the feeds: connections, subscriptions, gaps, losses; every Kafka message of their topic.",
    (
        Column("topic", _TEXT, "Kafka topic"),
        *_FRAME_ORIGIN,
        _APPENDED,
        _KEY,
        Column("schema_id", _INT, "registry's id of the event's schema; null if unreadable", required=False),
        Column("at_ns", _LONG, "when it was noticed, ns since 1970 (UTC); null if unreadable", required=False),
        Column("venue", _TEXT, "the market; null if unreadable", required=False),
        Column("kind", _TEXT, "connect, subscribe, gap, …: see Feed events; null if unreadable", required=False),
        Column("symbol", _TEXT, "the venue's own; empty when it concerns none; null if unreadable", required=False),
        Column("connection_id", _TEXT, "the feed's connection; null if unreadable", required=False),
        Column(
            "details", MAP_OF_TEXTS, "such as first_missing, last_missing, reason; null if unreadable", required=False
        ),
        Column("payload", BinaryType(), "the whole Kafka value"),
        Column("ingestion_timestamp", _TIME, "at_ns in µs; kafka_timestamp if unreadable"),
    ),
    "ingestion_timestamp",
    {**DRAINED, **counted("key", "venue", "kind", "symbol", "connection_id"), **uncounted("payload")},
    sort_by=_FRAME,
    retention_days=365,
)

_CANDLE_COLUMNS: Final = (
    Column("symbol", _TEXT, "base + quote: BTCUSDT"),
    Column("exchange", _TEXT, "the market"),
    Column("window_start", _TIME, "start of the window, inclusive (UTC)"),
    Column("window_end", _TIME, "end of the window, exclusive (UTC)"),
    Column("window_date", DateType(), "UTC date of window_start"),
    Column("open_price", _PRICE, "price of the first trade by (timestamp, source_sequence, trade_id)"),
    Column("high_price", _PRICE, "highest price"),
    Column("low_price", _PRICE, "lowest price"),
    Column("close_price", _PRICE, "price of the last trade by (timestamp, source_sequence, trade_id)"),
    Column("volume", DecimalType(38, 8), "Σ quantity, exact"),
    Column("quote_volume", DecimalType(38, 20), "Σ price × quantity, exact; null from 10^18", required=False),
    Column("trade_count", _LONG, "number of trades"),
    Column("vwap", _PRICE, "quote_volume / volume, rounded once, half even, within [low, high]"),
    Column("first_trade_id", _TEXT, "trade_id of the open"),
    Column("last_trade_id", _TEXT, "trade_id of the close"),
    Column("is_complete", BooleanType(), "ids run without a hole from the last trade before to the first after"),
    Column("missing_trades", _LONG, "ids between the bounding trades that gold does not hold"),
    Column("lowest_sequence", _LONG, "smallest source_sequence of its trades; null: not known", False, served=False),
    Column("highest_sequence", _LONG, "largest source_sequence of its trades; null: not known", False, served=False),
    Column("created_at", _TIME, "when the candle was first written (UTC)"),
    Column("updated_at", _TIME, "when its content last changed (UTC)"),
)


def candles(timeframe: Timeframe) -> TableSpec:
    """Return the table of the candles of a timeframe: minutes are made from trades, wider windows from minutes."""
    made_from = GOLD_TRADES.name if timeframe == ONE_MINUTE else f"gold_ohlcv_{ONE_MINUTE.name}"
    return TableSpec(
        f"gold_ohlcv_{timeframe.name}",
        f"{timeframe.words.capitalize()} candles of {GOLD_TRADES.name}; a window without a trade has none.",
        _CANDLE_COLUMNS,
        "window_start",
        DRAINED,
        sort_by=("symbol", "exchange", "window_start"),
        made_from=(made_from,),
        timeframe=timeframe,
        partition_unit="month" if timeframe.width_us >= DAY_US else "day",
        retention_days=timeframe.rolling_days,
    )


CANDLES: Final = tuple(candles(timeframe) for timeframe in TIMEFRAMES)
GOLD_OHLCV_1M: Final = CANDLES[0]
GOLD_TABLES: Final = {spec.name: spec for spec in (GOLD_TRADES, *CANDLES, GOLD_QUOTES)}
"""The tables of gold by name, in the order in which a day of them is refreshed."""

GOLD_RESTATEMENTS = TableSpec(
    "gold_restatements",
    "What gold said of a window or a day that was over, and says otherwise now: a row for each such change.",
    (
        Column("table", _TEXT, "whose value changed: gold_ohlcv_1h"),
        Column("exchange", _TEXT, "the market"),
        Column("symbol", _TEXT, "base + quote: BTCUSDT"),
        Column("window_start", _TIME, "start of the candle's window; of trades and quotes the start of the day (UTC)"),
        Column("window_end", _TIME, "its end, exclusive (UTC)"),
        Column("reason", _TEXT, "late, repair, rebuild or correction"),
        Column("before", MAP_OF_TEXTS, "the values that changed, as they were; empty: there was no candle"),
        Column("after", MAP_OF_TEXTS, "the same as they are since; empty: there is no candle any more"),
        Column("restated_at", _TIME, "when the change was computed (UTC)"),
    ),
    "restated_at",
    DRAINED,
    sort_by=("table", "symbol", "exchange", "window_start", "restated_at"),
)

REFERENCE_INSTRUMENTS = TableSpec(
    "reference_instruments",
    "Every version of every instrument that the venues list; the open one of each has no valid_to.",
    (
        Column("exchange", _TEXT, "the market"),
        Column("venue_symbol", _TEXT, "as the venue's WebSocket spells it: BTC/USD"),
        Column("symbol", _TEXT, "base + quote, upper case, modern codes: BTCUSD"),
        Column("base", _TEXT, "what is traded, in modern codes"),
        Column("quote", _TEXT, "what it is paid in, in modern codes"),
        Column("tick_size", _PRICE, "smallest step of a price; null if the venue names none", required=False),
        Column("lot_size", _QUANTITY, "smallest step of a quantity; null if the venue names none", required=False),
        Column("status", _TEXT, "trading, restricted (some orders only), halted, delisted or unknown"),
        Column("venue_status", _TEXT, "in the venue's own words; not listed once it is gone from the list"),
        Column("tier", _INT, "1: the settings feed it; 2: another that can be traded; 3: the rest"),
        Column("asset_class", _TEXT, "equities, crypto, futures or options"),
        Column("valid_from", _TIME, "from when on frames are judged by this version, inclusive (UTC)"),
        Column("valid_to", _TIME, "until when, exclusive (UTC); null while it is open", required=False),
        Column("fetched_at", _TIME, "when the list was fetched that showed it first (UTC)"),
        Column("source", _TEXT, "URL of that list"),
    ),
    "valid_from",
    {**DRAINED, **counted("venue_symbol", "symbol", "base", "quote", "venue_status")},
    sort_by=("exchange", "venue_symbol", "valid_from"),
)


REFERENCE_EPOCHS = TableSpec(
    "reference_epochs",
    "Where the trade ids of an instrument began again: a row for each epoch but the first of each instrument.",
    (
        Column("exchange", _TEXT, "the market"),
        Column("symbol", _TEXT, "base + quote, upper case, modern codes: BTCUSDT"),
        Column("start", _TIME, "event time of the epoch's first trade: it and what comes after belong to it (UTC)"),
        Column("found_at", _TIME, "when the row was written (UTC)"),
    ),
    "start",
    DRAINED,
    sort_by=("exchange", "symbol", "start"),
)


SERVED: Final = (GOLD_TRADES, *CANDLES, GOLD_QUOTES, REFERENCE_INSTRUMENTS, REFERENCE_EPOCHS)
"""What the API serves, and what a tag of a dataset names."""


def all_tables(venues: tuple[str, ...]) -> list[TableSpec]:
    """Return every table of a platform that feeds ``venues``, in the order data flows."""
    of_venues: list[TableSpec] = []
    for venue in venues:
        of_venues += [*(bronze(venue, data) for data in DATA), silver_rejected(venue)]
        of_venues += (silver(venue, data) for data in DATA)
    return [
        *of_venues,
        REFERENCE_INSTRUMENTS,
        REFERENCE_EPOCHS,
        BRONZE_FEED_EVENTS,
        *GOLD_TABLES.values(),
        GOLD_RESTATEMENTS,
    ]


def derived_from(name: str) -> tuple[str, ...]:
    """Return the names of the tables that are computed from this one."""
    return tuple(spec.name for spec in all_tables(tuple(VENUES)) if name in spec.made_from)


def drained_from(venues: Iterable[Venue]) -> dict[str, tuple[TableSpec, ...]]:
    """Return the tables that a drain fills from each topic of these venues' feeds, in the order of their commits."""
    found: dict[str, tuple[TableSpec, ...]] = {FEED_EVENTS: (BRONZE_FEED_EVENTS,)}
    for venue in venues:
        for data in DATA:
            name, topic = venue.VENUE, raw_topic(venue.ASSET_CLASS, data, venue.VENUE)
            found[topic] = (bronze(name, data), silver_rejected(name), silver(name, data))
    return found
