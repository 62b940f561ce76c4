"""Named tags: their states fit together, all tables get one or none, and what they name stays for good."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from k2_api.lake.snapshot_choice import resolve
from k2_assets.lake.source_files import live_files
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance import named_tags
from k2_assets.maintenance.fitting_states import state_at
from k2_assets.maintenance.named_tags import NamedTags
from k2_assets.maintenance.retention import TableRetention
from k2_assets.maintenance.table_round import TableRound
from k2_assets.maintenance.tag_names import why_refused
from k2_core import clock
from k2_core.errors import LockBusy, TagRefused
from k2_core.lake.retention_policy import TablePolicy
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TRADES, SERVED
from k2_core.settings import Maintenance
from k2_stack.tag_commands import _as_of
from tests.assets.lakes import DAY, SILVER, SmallLake, a_trade, current_id, data_on_disk, trades_of

GOLD = [GOLD_TRADES, *CANDLES]
NEXT = DAY + timedelta(days=1)


def tags(lake: SmallLake, **settings: Any) -> NamedTags:
    return NamedTags(lake.catalog, lake.namespace, Maintenance(**settings))


def create(lake: SmallLake, name: str, *tables: TableSpec, as_of: str | None = None) -> dict[str, int]:
    """The snapshots that were tagged, by table."""
    done, _ = tags(lake).create(name, [spec.name for spec in tables], _as_of(as_of))
    return {each.table: each.snapshot_id for each in done}


def trade_and_candles(lake: SmallLake, trade_id: int, minute: int) -> tuple[int, int]:
    """Take a trade into gold, build its candles, and return the snapshots of trades and of one-minute candles."""
    lake.append(SILVER, [a_trade(trade_id, 60.0 * minute)])
    lake.trades_refresh().take_in_news()
    lake.candles_refresh().take_in_news()
    lake.refresh_wider_candles()
    return current_id(lake, GOLD_TRADES), current_id(lake, GOLD_OHLCV_1M)


def tagged(lake: SmallLake, name: str) -> dict[str, int]:
    return {each.table: each.snapshot_id for each in tags(lake).listed() if each.tag == name}


def rows_under(lake: SmallLake, name: str) -> dict[str, list[str]]:
    """Every row of every table under a tag, in an order of its own."""
    found = {}
    for table, snapshot_id in tagged(lake, name).items():
        scan = lake.catalog.load_table((lake.namespace, table)).scan(snapshot_id=snapshot_id)
        found[table] = sorted(map(repr, scan.to_arrow().to_pylist()))
    return found


@pytest.mark.parametrize("name", ["report-2026-11", "v1.2", "a", "2026-q3", "Paper_7", "1st", "1e5x", "x" * 128])
def test_name_is_accepted_when_as_of_cannot_mean_anything_else(name: str) -> None:
    assert why_refused(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, "is a number") for name in ("123", "1.5", "-5", "1e5", "12-34")),
        *((name, "looks like a time") for name in ("2026-11-21", "2026-11", "2026-99-99", "2026-11-21T06", "2026-11t")),
        *((name, "maintenance") for name in ("auto-hour-2026-11-21T06", "auto-day-2026-11-21", "auto-anything")),
        *((name, "letters, digits") for name in ("", "a b", "a/b", "ä", "a\n", "١٢", "2026-11-21T06:00", "x" * 129)),
        ("main", "Iceberg"),
    ],
)
def test_name_is_refused_when_as_of_could_mean_something_else(name: str, why: str) -> None:
    assert why in (why_refused(name) or "")


def test_all_served_tables_with_rows_get_the_tag_when_none_is_named(lake: SmallLake) -> None:
    trades, candles = trade_and_candles(lake, 1, 0)

    done, empty = tags(lake).create("paper", [], _as_of(None))

    assert [each.table for each in done] == [spec.name for spec in GOLD]
    assert sorted([*empty, *(each.table for each in done)]) == sorted(spec.name for spec in SERVED)
    assert (tagged(lake, "paper")[GOLD_TRADES.name], tagged(lake, "paper")[GOLD_OHLCV_1M.name]) == (trades, candles)
    assert [each.rows for each in done] == [1] * len(GOLD)
    snapshot = lake.table(GOLD_TRADES).metadata.snapshot_by_id(trades)
    assert snapshot is not None
    assert done[0].committed_at == clock.iso(clock.from_us(snapshot.timestamp_ms * 1000))


def test_candles_are_those_that_were_built_of_the_trades_when_an_earlier_state_is_asked_for(lake: SmallLake) -> None:
    first = trade_and_candles(lake, 1, 0)
    between = clock.now()
    second = trade_and_candles(lake, 2, 1)
    third = trade_and_candles(lake, 3, 2)

    by_id, by_time = create(lake, "by-id", as_of=str(second[0])), create(lake, "by-time", as_of=clock.iso(between))
    by_tag, newest = create(lake, "by-tag", as_of="by-id"), create(lake, "newest")

    for found, wanted in ((by_id, second), (by_time, first), (by_tag, second), (newest, third)):
        assert (found[GOLD_TRADES.name], found[GOLD_OHLCV_1M.name]) == wanted
    assert len(rows_under(lake, "by-time")[GOLD_OHLCV_1M.name]) == 1


def test_candles_hold_nothing_of_later_trades_when_they_have_not_followed_yet(lake: SmallLake) -> None:
    _, candles = trade_and_candles(lake, 1, 0)
    lake.append(SILVER, [a_trade(2, 60.0)])
    lake.trades_refresh().take_in_news()

    found = create(lake, "paper", GOLD_OHLCV_1M, GOLD_TRADES)

    assert found == {GOLD_TRADES.name: current_id(lake, GOLD_TRADES), GOLD_OHLCV_1M.name: candles}


def test_a_state_that_is_no_longer_kept_is_refused_and_automatic_tags_of_one_moment_fit(
    lake: SmallLake, later: Callable[[float], None]
) -> None:
    first = trade_and_candles(lake, 1, 0)
    create(lake, "trades-alone", GOLD_TRADES)
    trade_and_candles(lake, 2, 1)
    later(3)
    for spec in GOLD:
        TableRound(lake.catalog, lake.namespace, spec, Maintenance(settle_s=0)).run()
    third = trade_and_candles(lake, 3, 2)

    with pytest.raises(TagRefused, match=r"gold_ohlcv_\w+ had at .* is no longer kept; next to it are kept"):
        create(lake, "paper", as_of="trades-alone")
    assert tagged(lake, "paper") == {}
    [hour, *_] = [each for each in tags(lake).listed(automatic=True) if each.tag.startswith("auto-hour-")]
    found = create(lake, "of-the-hour", as_of=hour.tag)

    assert len({*found.values()} & {*first, *third}) == 0
    assert {len(rows) for rows in rows_under(lake, "of-the-hour").values()} == {1, 2}
    assert len(rows_under(lake, "of-the-hour")[GOLD_OHLCV_1M.name]) == 2


def test_an_expired_state_is_not_taken_for_one_that_never_was(lake: SmallLake) -> None:
    trade_and_candles(lake, 1, 0)
    metadata = lake.table(GOLD_OHLCV_1M).metadata
    [only] = metadata.snapshots

    assert state_at("candles", metadata, only.timestamp_ms - 1, 0) is None
    follower = only.model_copy(update={"sequence_number": 2})
    with pytest.raises(TagRefused, match="no longer kept"):
        state_at("candles", metadata.model_copy(update={"snapshots": [follower]}), only.timestamp_ms - 1, 0)


@pytest.mark.parametrize(
    ("tables", "as_of", "said"),
    [
        ([GOLD_QUOTES.name], None, "gold_crypto_quotes has no rows yet"),
        ([GOLD_TRADES.name, GOLD_QUOTES.name], None, "gold_crypto_quotes: no rows at that moment"),
        (["no_table"], None, "there is no table no_table in this lake: `k2 tables list` shows"),
        ([], "12345", "'12345' is neither a tag nor a snapshot id"),
        ([], "nothing", "'nothing' is neither a tag nor a snapshot id"),
    ],
)
def test_what_cannot_be_tagged_is_refused_and_no_table_gets_a_tag(
    lake: SmallLake, tables: list[str], as_of: str | None, said: str
) -> None:
    trade_and_candles(lake, 1, 0)
    with pytest.raises(TagRefused, match=said):
        tags(lake).create("paper", tables, _as_of(as_of))
    assert tags(lake).listed() == []


def test_an_empty_lake_has_nothing_to_tag(lake: SmallLake) -> None:
    with pytest.raises(TagRefused, match="gold_crypto_trades has no rows yet, so there is nothing to tag"):
        create(lake, "paper")


def test_an_existing_name_is_refused_and_other_tables_may_be_added_to_it(lake: SmallLake) -> None:
    first = trade_and_candles(lake, 1, 0)
    create(lake, "paper", GOLD_TRADES)
    trade_and_candles(lake, 2, 1)

    with pytest.raises(TagRefused, match=r"tag paper exists already, of gold_crypto_trades: .*k2 tag delete paper"):
        create(lake, "paper")
    added = create(lake, "paper", GOLD_OHLCV_1M)

    # It fits the trades that have the tag, not the newest ones.
    assert added == {GOLD_OHLCV_1M.name: first[1]}
    assert tagged(lake, "paper") == dict(zip((GOLD_TRADES.name, GOLD_OHLCV_1M.name), first, strict=True))


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("takes_place", [True, False])
def test_no_table_has_the_tag_when_one_of_them_cannot_get_it(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch, error: BaseException, takes_place: bool
) -> None:
    trade_and_candles(lake, 1, 0)
    original, seen = SqlCatalog.commit_table, Counter[str]()

    def commit_table(self: SqlCatalog, table: Table, requirements: Any, updates: Any) -> Any:
        seen[table.name()[-1]] += 1
        if table.name()[-1] != CANDLES[2].name or seen[CANDLES[2].name] > 1:
            return original(self, table, requirements, updates)
        if takes_place:
            original(self, table, requirements, updates)
        raise error

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    with pytest.raises(
        TagRefused, match=f"{CANDLES[2].name} could not be tagged .*, so no table has it now: try again"
    ):
        create(lake, "paper")

    assert tags(lake).listed() == []
    assert seen[GOLD_TRADES.name] == 2
    assert list(create(lake, "paper")) == [spec.name for spec in GOLD]


def test_the_error_names_the_tables_that_still_have_the_tag(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    trade_and_candles(lake, 1, 0)
    original, made = SqlCatalog.commit_table, []

    def commit_table(self: SqlCatalog, table: Table, requirements: Any, updates: Any) -> Any:
        if made:
            raise OSError("No space left on device")
        made.append(table)
        return original(self, table, requirements, updates)

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    with pytest.raises(TagRefused, match="taken back from gold_crypto_trades: delete it with `k2 tag delete paper`"):
        create(lake, "paper")
    monkeypatch.undo()

    assert list(tagged(lake, "paper")) == [GOLD_TRADES.name]
    assert [each.table for each in tags(lake).delete("paper")] == [GOLD_TRADES.name]


def test_nothing_is_tagged_while_the_history_of_one_table_is_locked(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    trade_and_candles(lake, 1, 0)
    monkeypatch.setattr(named_tags, "_WAIT_S", 0.1)
    with (
        lock(lake.catalog, f"history:{GOLD_OHLCV_1M.name}", 5),
        pytest.raises(LockBusy, match=f"history:{GOLD_OHLCV_1M.name} is locked by process"),
    ):
        create(lake, "paper")
    assert tags(lake).listed() == []


def test_automatic_tags_are_listed_when_asked_for_and_never_deleted(
    lake: SmallLake, later: Callable[[float], None]
) -> None:
    trade_and_candles(lake, 1, 0)
    create(lake, "paper", GOLD_TRADES)
    later(3)
    TableRound(lake.catalog, lake.namespace, GOLD_TRADES, Maintenance(settle_s=0)).run()

    assert [each.tag for each in tags(lake).listed()] == ["paper"]
    automatic = [each.tag for each in tags(lake).listed(automatic=True) if each.tag != "paper"]
    assert automatic
    with pytest.raises(TagRefused, match="is an automatic tag"):
        tags(lake).delete(automatic[0])
    with pytest.raises(TagRefused, match="no tag of gold_ohlcv_1m is called paper: `k2 tag list` shows"):
        tags(lake).delete("paper", [GOLD_OHLCV_1M.name])
    assert [each.tag for each in tags(lake).delete("paper", [GOLD_TRADES.name])] == ["paper"]
    assert tags(lake).listed() == []


def test_every_row_under_a_tag_stays_when_maintenance_and_retention_remove_files(
    lake: SmallLake, later: Callable[[float], None]
) -> None:
    lake.append(SILVER, [*trades_of(range(1, 11), 40), *trades_of(range(11, 21), 40, start=86_400)])
    for day in (DAY, NEXT):
        lake.trades_refresh(day).take_in_news()
        lake.candles_refresh(day).take_in_news()
    lake.refresh_wider_candles()
    create(lake, "paper", SILVER, *GOLD)
    before, files = rows_under(lake, "paper"), data_on_disk(lake)
    assert len(before[SILVER.name]) == len(before[GOLD_TRADES.name]) == 20

    # More rows, of a tagged day and of one that no tag names, so that files are joined, replaced and removed.
    for number in range(21, 38):
        lake.append(SILVER, [a_trade(number, 86_400 + 40.0 * number), a_trade(number + 100, 864_000.0 + number)])
    for day in sorted(lake.days_behind(GOLD_TRADES.name, SILVER.name)):
        lake.trades_refresh(day).take_in_news()
        lake.candles_refresh(day).take_in_news()
    lake.refresh_wider_candles()
    joined = removed = 0
    for _ in range(3):
        later(40 * 24)
        for spec in (SILVER, *GOLD):
            report = TableRound(lake.catalog, lake.namespace, spec, Maintenance()).run()
            joined, removed = joined + report.files_joined, removed + report.files_removed
        for spec in (SILVER, GOLD_OHLCV_1M):
            TableRetention(lake.catalog, lake.namespace, TablePolicy(spec, 30, ())).run()

    assert joined > 0
    assert removed > 0
    assert not files - data_on_disk(lake)
    assert {each.day for each in live_files(lake.table(SILVER), "timestamp")} == {DAY, NEXT}
    assert rows_under(lake, "paper") == before
    for spec in (SILVER, *GOLD):
        snapshot = resolve(lake.table(spec).metadata, "paper")
        assert snapshot is not None
        assert snapshot.snapshot_id == tagged(lake, "paper")[spec.name]
