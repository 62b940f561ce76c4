"""The only module that reads the environment. Settings are built once at an entry point and passed down."""

import json
import os
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from k2_core.errors import SettingsError
from k2_core.loopback import sparing_loopback
from k2_core.urls import WebSocketUrl

DEVELOPMENT_API_KEY = "k2-dev-api-key-2026"
_BASES = ("SOL", "XRP", "DOGE", "ADA", "AVAX", "LINK", "LTC", "DOT", "BCH")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ports(_Section):
    """TCP ports on 127.0.0.1."""

    kafka: int = Field(9092, ge=1, le=65535, description="Kafka's broker")
    kafka_controller: int = Field(9093, ge=1, le=65535, description="Kafka's controller")
    registry: int = Field(8081, ge=1, le=65535, description="the schema registry")
    registry_management: int = Field(8082, ge=1, le=65535, description="the schema registry's own health and metrics")
    dagster: int = Field(3000, ge=1, le=65535, description="Dagster's webserver")
    dagster_code: int = Field(4000, ge=1, le=65535, description="Dagster's code server (gRPC)")
    api: int = Field(8000, ge=1, le=65535, description="the REST API")
    feed_health: int = Field(9101, ge=1, le=65535, description="the feed's /health and /metrics")
    metrics: int = Field(9102, ge=1, le=65535, description="reserved; nothing listens there")
    simulator: int = Field(9443, ge=1, le=65535, description="the simulator's WebSocket and /status")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        used: dict[int, str] = {}
        for name, port in self:
            if port in used:
                msg = f"ports {used[port]} and {name} are both {port}"
                raise ValueError(msg)
            used[port] = name
        return self


class Kafka(_Section):
    """Where Kafka is, and how K2 creates its topics."""

    bootstrap_servers: str | None = Field(None, description="your own Kafka; unset: K2 runs one itself")
    topic_partitions: int = Field(4, ge=1, le=1000, description="partitions of each topic that K2 creates")
    topic_replication: int = Field(1, ge=1, le=10, description="replicas of each topic that K2 creates")
    retention_days: int = Field(7, ge=1, description="how long Kafka keeps messages; the lake keeps all of them")


class Registry(_Section):
    """Where the schema registry is."""

    url: str | None = Field(None, description="Confluent-compatible API of your own registry; unset: K2 runs one")


class Catalog(_Section):
    """The Iceberg catalog and its warehouse."""

    uri: str | None = Field(None, description="SQLAlchemy URL; unset: SQLite under the home folder")
    warehouse: str | None = Field(None, description="folder or s3:// URL; unset: under the home folder")
    namespace: str = Field("market_data", description="Iceberg namespace of all tables")
    properties: dict[str, str] = Field(default_factory=dict, description="passed to pyiceberg, such as s3.endpoint")


_Url = Annotated[WebSocketUrl, Field(description="WebSocket server, without a path")]
_RestUrl = Annotated[str, Field(description="REST server, for the list of instruments and the venue's own candles")]
_Symbols = Annotated[tuple[str, ...], Field(description="the venue's own symbols")]


class VenueFeed(_Section):
    """What is fed of a venue, and from where: the base of each venue's section, which gives the defaults."""

    url: _Url
    rest_url: _RestUrl
    symbols: _Symbols
    trades: bool = Field(True, description="feed trades")
    quotes: bool = Field(True, description="feed the best bid and offer")


class Binance(VenueFeed):
    """Binance spot: public market data, no key."""

    url: _Url = "wss://stream.binance.com:9443"
    rest_url: _RestUrl = "https://api.binance.com"
    symbols: _Symbols = ("BTCUSDT", "ETHUSDT", "BNBUSDT", *(f"{base}USDT" for base in _BASES))


class Kraken(VenueFeed):
    """Kraken spot: public market data, no key."""

    url: _Url = "wss://ws.kraken.com"
    rest_url: _RestUrl = "https://api.kraken.com"
    symbols: _Symbols = ("BTC/USD", "ETH/USD", "ETH/BTC", *(f"{base}/USD" for base in _BASES))


class Coinbase(VenueFeed):
    """Coinbase Advanced Trade, spot: public market data, no key."""

    url: _Url = "wss://advanced-trade-ws.coinbase.com"
    rest_url: _RestUrl = "https://api.exchange.coinbase.com"
    symbols: _Symbols = ("BTC-USD", "ETH-USD", "ETH-BTC", *(f"{base}-USD" for base in _BASES))


class Feeds(_Section):
    """Which venues are fed, and how long the feed waits."""

    venues: tuple[str, ...] = Field(("binance", "kraken", "coinbase"), description="venues that `k2 up` feeds")
    binance: Binance = Binance()
    kraken: Kraken = Kraken()
    coinbase: Coinbase = Coinbase()
    symbols_per_connection: int = Field(
        200,
        ge=1,
        description="most symbols on one connection; the venue's own limit holds too",
    )
    source: str = Field("", description="where frames come from, if not from the venues; `k2 up --source` sets it")
    ca_file: Path | None = Field(
        None, description="PEM file of the authorities that sign the venues' certificates; unset: certifi's"
    )
    backoff_first_s: float = Field(1.0, gt=0, description="first pause before a reconnect; it doubles, ±50 %")
    backoff_last_s: float = Field(128.0, gt=0, description="longest pause before a reconnect")
    silence_s: float = Field(60.0, gt=0, description="reconnect after this long without any frame or ping")
    rotate_after_s: float = Field(23 * 3600.0, gt=0, description="renew a connection before the venue's 24-hour cut")
    gap_grace_s: float = Field(2.0, ge=0, description="report missing ids that have not arrived after this long")
    stale_after_s: float = Field(30.0, gt=0, description="an event that is older than this at receipt is stale")
    skew_s: float = Field(2.0, gt=0, description="report a venue's clock that differs from ours by more than this")
    buffer_mb: int = Field(
        64,
        ge=1,
        le=2048,
        description="memory for values that wait for Kafka; when it is full, frames are dropped and reported",
    )
    kafka_away_after_s: float = Field(
        5.0, gt=0, description="with a full buffer, Kafka counts as away after this long without an acknowledgement"
    )

    def of(self, venue: str) -> VenueFeed:
        """Return the section of a venue, which has its name."""
        section: VenueFeed = getattr(self, venue)
        return section


class Reference(_Section):
    """The instrument register."""

    valid_after_s: float = Field(
        120.0,
        ge=60,
        description="a version is valid from this long after its fetch: no drain has judged later frames without it",
    )
    klines: Path | None = Field(
        None,
        description="folder of CSV files with venues' own one-minute candles, which the check `same_as_venue` compares "
        "ours with; unset: it asks the venues",
    )


class Drain(_Section):
    """How the drain commits and how long one run lives."""

    name: str = Field(
        "main", description="name of its job, sensor and heartbeat: main_drain, main_feed_sensor, run/main.db"
    )
    commit_interval_s: float = Field(10.0, gt=0, description="commit this often")
    commit_rows: int = Field(500_000, ge=1, description="commit sooner once this many frames wait")
    quiet_interval_s: float = Field(
        60.0, ge=0, description="commit at most this often when only heartbeats came, or when no row was rejected"
    )
    work_minutes: float = Field(15.0, gt=0, description="then the run hands over to the next one")
    report_interval_s: float = Field(
        600.0, ge=0, description="report commits to Dagster at most this often; faults are reported at once"
    )
    beat_interval_s: float = Field(5.0, gt=0, description="write a sign of life this often")
    dead_after_s: float = Field(
        30.0, gt=0, description="a run without a heartbeat for this long, whose process is gone, is dead"
    )
    hung_after_s: float = Field(
        300.0, gt=0, description="a run without progress for this long, which does not wait, hangs"
    )


class Refine(_Section):
    """The run that brings gold up to silver."""

    enabled: bool = Field(
        True, description="keep gold up to date; without it, only people and backfills rebuild its days"
    )
    work_minutes: float = Field(15.0, gt=0, description="then the run hands over to the next one")
    report_interval_s: float = Field(180.0, ge=0, description="report each day to Dagster at most this often")


class Api(_Section):
    """The REST API."""

    host: str = Field("127.0.0.1", description="address that the API listens on")
    key: SecretStr = Field(
        SecretStr(DEVELOPMENT_API_KEY),
        description="what callers send as X-API-Key; it has the role admin, and `k2 keys` makes others",
    )
    key_rate: int | None = Field(
        None, ge=1, le=100_000, description="most requests a minute with this key; unset: no limit"
    )
    query_timeout_s: float = Field(30.0, gt=0, description="a query that takes longer is ended and answered with 504")
    query_memory_mb: int = Field(1024, ge=64, description="memory that all queries together may use")
    workers: int = Field(
        1,
        ge=1,
        le=1000,
        description="how many processes serve the API to the same callers: each allows its share of a key's rate",
    )
    rate_limit_store: SecretStr | None = Field(
        None,
        description="URL of a store in which all processes count requests together, such as redis://host:6379; "
        "unset: each counts its own",
    )
    cors_origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")], ...] = Field(
        (), description="origins whose pages may ask the API from a browser", examples=["https://charts.example.com"]
    )

    @model_validator(mode="after")
    def _development_key_stays_at_home(self) -> Self:
        loopback = self.host in {"127.0.0.1", "::1", "localhost"}
        if self.key.get_secret_value() == DEVELOPMENT_API_KEY and not loopback:
            msg = f"the development key is refused on {self.host}: set K2_API__KEY, or listen on 127.0.0.1"
            raise ValueError(msg)
        return self


class Maintenance(_Section):
    """How maintenance thins a table's history, joins small files, and removes files that no snapshot names."""

    drained_keep_s: float = Field(600.0, ge=1, description="keep every snapshot of bronze and silver for this long")
    gold_keep_s: float = Field(900.0, ge=1, description="the same for gold; the API's cursors live as long")
    hourly_tags: int = Field(24, ge=1, description="keep the state at the end of each of this many hours")
    daily_tags: int = Field(
        30,
        ge=1,
        description="keep the state at the end of each of this many days; the ends of months are kept for good",
    )
    settle_s: float = Field(
        60.0, ge=0, description="tag an hour only this long after its end: a commit may be under way"
    )
    remove_after_s: float = Field(
        3600.0,
        ge=0,
        description="remove a file this long after its last snapshot was removed: by then its readers have ended",
    )
    orphan_after_s: float = Field(
        86_400.0,
        ge=3600,
        description="remove a file that no snapshot names once it is this old; longer than any run takes",
    )
    orphan_every_s: float = Field(3600.0, ge=0, description="look for such files at most this often")
    compact_files: int = Field(16, ge=2, le=1000, description="join this many files of a day and of about one size")
    compact_after_s: float = Field(
        60.0, ge=0, description="do not join files of bronze and silver that are newer than this"
    )
    compact_gold_after_s: float = Field(600.0, ge=0, description="the same for gold, whose newest candles still change")
    closed_after_s: float = Field(
        21_600.0,
        ge=0,
        description="a day is closed this long after its end: from then on even two files of one size are joined",
    )
    target_mb: int = Field(128, ge=1, le=2048, description="a joined file is at most about this large")
    target_rows: int = Field(
        500_000,
        ge=1000,
        description="a joined file holds at most about this many rows; they take at most about 128 MB of memory",
    )


class LegalHold(_Section):
    """Days of tables that retention never touches. A held day stays whole, whatever the retention of its table.

    ``from`` and ``to`` are days, both included: those at which trades and quotes happened or candles began, and those
    at which messages were received. ``table`` and ``exchange`` may be ``*`` for all. With ``symbol`` only the days stay
    that may hold rows of it, as trades and candles spell it; a day of bronze may hold any.
    """

    table: str = "*"
    exchange: str = "*"
    symbol: str | None = None
    first: date = Field(alias="from")
    last: date = Field(alias="to")
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first > self.last:
            msg = f"from {self.first} is later than to {self.last}"
            raise ValueError(msg)
        return self


class Retention(_Section):
    """What is removed of the tables, and when. Gold's trades and quotes and the registers are always kept."""

    profile: Literal["archive", "rolling"] = Field(
        "archive",
        description="`archive`: everything is kept; `rolling`: days of bronze, silver and candles are removed, each "
        "table's own time after their last row was ingested (docs/operations.md#retention)",
    )
    days: dict[str, Annotated[int, Field(ge=1)] | None] = Field(
        default_factory=dict,
        description="days that `rolling` keeps a table's rows, by table, in place of its own; null: always",
    )
    legal_holds: tuple[LegalHold, ...] = Field(
        (),
        description="what is never removed: days (`from`, `to`) of tables, exchanges and symbols, each with a reason",
        examples=[{"exchange": "binance", "from": "2026-01-01", "to": "2026-03-31", "reason": "case 17"}],
    )


class Dagster(_Section):
    """How long Dagster remembers runs that are over. It never forgets which days were built."""

    runs_keep_hours: float = Field(2.0, gt=0, description="keep successful runs that a sensor or schedule started")
    others_keep_days: float = Field(
        30.0, gt=0, description="keep failed runs, runs of people and of backfills, and logs"
    )


class Supervisor(_Section):
    """How `k2 up` watches over the parts of the platform."""

    silent_after_s: float = Field(
        180.0, ge=10, description="end and restart a part that has served and has been silent for this long"
    )
    behind_after_s: float = Field(
        180.0,
        gt=0,
        description="`k2 status` reports a layer as behind when the oldest row below it has waited for this long",
    )


class Alerts(_Section):
    """Whom K2 sends a message when something becomes bad or recovers; docs/alerts.md says how."""

    urls: tuple[SecretStr, ...] = Field(
        (),
        description="where to: URLs of apprise; they are secrets, and never shown",
        examples=["slack://TokenA/TokenB/TokenC/#alerts"],
    )
    urls_file: Path | None = Field(None, description="a file with more of them, one a line; read before each sending")
    minimum_severity: Literal["warning", "error"] = Field("warning", description="send nothing of what is less severe")
    interval_s: float = Field(10.0, ge=5, description="look this often; Dagster adds up to 5 s")
    again_after_s: float = Field(
        600.0,
        ge=0,
        description="a condition that comes and goes is reported at most this often, each time with its end",
    )
    lines: int = Field(
        20, ge=1, le=200, description="a message lists at most so many conditions, and counts the others"
    )
    feed: bool = Field(True, description="ask the feed's /health too")
    feed_url: str | None = Field(None, description="http:// URL of the feed's /health; unset: that of this home's feed")
    feed_after_s: float = Field(60.0, ge=0, description="a feed is bad after this long in a bad state, or unreachable")
    ui_url: str | None = Field(None, description="where people reach Dagster's pages, for links; unset: 127.0.0.1")
    runbook_url: str = Field("docs/alerts.md", description="where people find docs/alerts.md, for links")
    silent_after_s: float = Field(90.0, gt=0, description="`k2 status` warns when the last look was this long ago")


class Simulator(_Section):
    """K2's own venue server: its random market, and when it begins to play a recording."""

    seed: int = Field(2026, ge=0, description="seed of the random market; the same seed gives the same prices")
    trades_per_second: float = Field(50.0, gt=0, le=1_000_000, description="trades of all symbols together")
    cut_after_s: float = Field(24 * 3600.0, gt=0, description="cut every connection after this long, as Binance does")
    quotes_per_trade: float = Field(4.0, ge=0, le=100, description="number of quotes for each trade")
    symbols: tuple[str, ...] = Field(
        (),
        description="of the random market, each in its venue's spelling; empty: those of the feeds and a few more",
    )
    wait_for_all: bool = Field(
        False,
        description="start a recording once all its symbols are subscribed to, within 60 s; `k2 up` sets it",
    )


class Settings(BaseSettings):
    """All settings: ``K2_HOME``, ``K2_PORTS__API``, ``K2_KAFKA__BOOTSTRAP_SERVERS`` and so on."""

    model_config = SettingsConfigDict(
        env_prefix="K2_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = Field(Path(".k2"), description="the folder that holds everything")
    low_disk_mb: int = Field(
        500, ge=0, description="warn when less is free on the disk of home or warehouse, and less than 5 % of it"
    )
    ports: Ports = Ports()
    kafka: Kafka = Kafka()
    registry: Registry = Registry()
    catalog: Catalog = Catalog()
    feeds: Feeds = Feeds()
    reference: Reference = Reference()
    drain: Drain = Drain()
    refine: Refine = Refine()
    maintenance: Maintenance = Maintenance()
    retention: Retention = Retention()
    api: Api = Api()
    simulator: Simulator = Simulator()
    supervisor: Supervisor = Supervisor()
    dagster: Dagster = Dagster()
    alerts: Alerts = Alerts()

    @model_validator(mode="after")
    def _absolute_home(self) -> Self:
        object.__setattr__(self, "home", self.home.expanduser().absolute())
        return self

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address: the user's own, or the broker that K2 runs."""
        return self.kafka.bootstrap_servers or f"127.0.0.1:{self.ports.kafka}"

    @property
    def registry_url(self) -> str:
        """The registry's Confluent-compatible API."""
        return self.registry.url or f"http://127.0.0.1:{self.ports.registry}/apis/ccompat/v7"

    @property
    def catalog_uri(self) -> str:
        """SQLAlchemy URL of the Iceberg catalog."""
        return self.catalog.uri or f"sqlite:///{self.home / 'catalog.db'}?timeout=30"

    @property
    def warehouse(self) -> str:
        """Root of all table files."""
        return self.catalog.warehouse or f"file://{self.home / 'warehouse'}"


def load_settings(**overrides: object) -> Settings:
    """Build the settings from the environment.

    Raises:
        SettingsError: one sentence that names the variable and what is wrong with it.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic validates what it is given
    except ValidationError as error:
        first = error.errors()[0]
        name = "K2_" + "__".join(str(part) for part in first["loc"]).upper()
        wrong = _spelling(name) if first["type"] in {"tuple_type", "dict_type"} else first["msg"]
        msg = f"{name} cannot be used: {wrong.removeprefix('Value error, ')}."
        raise SettingsError(msg) from None
    except ValueError as error:  # pydantic-settings: a value that should be JSON is not; it does not name the variable
        names = (name for name, value in os.environ.items() if _spelling(name) and not _is_json(value))
        name = next(names, "a K2_ variable")
        msg = f"{name} cannot be used: {_spelling(name) or error}."
        raise SettingsError(msg) from None
    known = {f"K2_{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith("K2_") and name.split("__")[0] not in known | _INTERNAL:
            msg = f"{name} is not a setting of K2: check its spelling against docs/settings.md."
            raise SettingsError(msg)
    return settings


def child_environment(**extra: str) -> dict[str, str]:
    """Return the environment for a child process: ours with ``extra`` on top, and loopback asked through no proxy."""
    return {**os.environ, **sparing_loopback(os.environ), **extra}


def proxy_variables() -> dict[str, str]:
    """Return the variables that name proxies, in lower case; that spelling wins over upper case, as everywhere."""
    found = {name.lower(): value.strip() for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return found | {name: value.strip() for name, value in os.environ.items() if name.endswith("_proxy")}


def under_supervisor() -> bool:
    """Return whether ``k2 up`` started this process; it marks its processes in the environment."""
    return "_K2_STACK" in os.environ


def cache_folder() -> Path:
    """Return the user's cache folder for downloads, ``$XDG_CACHE_HOME/k2`` or ``~/.cache/k2``."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "k2"


def armed_crash() -> tuple[str | None, str | None]:
    """Return where a test wants this process killed, and the file that counts it; see :mod:`k2_core.crash_points`."""
    return os.environ.get("K2_CRASH_AT"), os.environ.get("K2_CRASH_LOG")


def _spelling(variable: str) -> str:
    """Return how to write a variable that holds JSON; an empty text for any other."""
    prefix, _, path = variable.lower().partition("_")
    section: Any = Settings if prefix == "k2" else None
    field: FieldInfo | None = None
    for name in path.split("__"):
        field = getattr(section, "model_fields", {}).get(name)
        section = field.annotation if field else None
    kind = field and (get_origin(field.annotation) or field.annotation)
    if field is not None and kind is tuple:
        return f"it must be a JSON list, such as {json.dumps(field.default[:1] or field.examples or ['BTCUSDT'])}"
    is_map = isinstance(kind, type) and issubclass(kind, dict | BaseModel)
    return 'it must be a JSON map, such as {"name": "value"}' if is_map else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text or "null")  # an empty variable counts as unset
    except ValueError:
        return False
    return True


_INTERNAL = {"K2_TEST_RECORDINGS", "K2_TEST_SEED", "K2_CRASH_AT", "K2_CRASH_LOG"}
