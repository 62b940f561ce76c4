"""Which tables lose days, and what legal holds concern: by the settings alone."""

from typing import Any

import pytest

from k2_core.errors import SettingsError
from k2_core.lake.retention_policy import policies
from k2_core.settings import Retention

HOLD = {"exchange": "binance", "from": "2026-01-01", "to": "2026-03-31", "reason": "case 17"}


def kept(**settings: Any) -> dict[str, int]:
    return {each.spec.name: each.days for each in policies(Retention(**{"profile": "rolling", **settings}))}


def test_everything_is_kept_by_default() -> None:
    assert policies(Retention()) == []


def test_rolling_keeps_what_the_tables_say_and_gold_and_registers_for_ever() -> None:
    days = kept()
    assert (days["bronze_binance_trades"], days["bronze_kraken_trades"], days["bronze_feed_events"]) == (7, 14, 365)
    assert (days["silver_kraken_quotes"], days["silver_kraken_rejected"]) == (30, 90)
    assert (days["gold_ohlcv_1m"], days["gold_ohlcv_1d"]) == (90, 1825)
    assert not {"gold_crypto_trades", "gold_crypto_quotes", "reference_epochs", "gold_restatements"} & days.keys()


def test_settings_give_a_table_other_days_or_keep_it_for_ever() -> None:
    days = kept(days={"bronze_binance_trades": 60, "gold_ohlcv_1m": None})
    assert days["bronze_binance_trades"] == 60
    assert "gold_ohlcv_1m" not in days


def test_a_hold_is_of_the_tables_of_its_exchange_and_of_those_of_all() -> None:
    held = {each.spec.name for each in policies(Retention(profile="rolling", legal_holds=(HOLD,))) if each.holds}  # type: ignore[arg-type]  # pydantic validates it
    assert {"bronze_binance_quotes", "silver_binance_rejected", "bronze_feed_events", "gold_ohlcv_1m"} <= held
    assert not any("kraken" in name for name in held)


@pytest.mark.parametrize("profile", ["archive", "rolling"])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"days": {"gold_crypto_trades": 9}}, "gold_crypto_trades is always kept"),
        ({"days": {"bronze_binanse_trades": 9}}, "bronze_binanse_trades is no table"),
        ({"legal_holds": [{**HOLD, "exchange": "binanse"}]}, "binanse is none of binance"),
        ({"legal_holds": [{**HOLD, "table": "silver"}]}, "silver is none of bronze_binance_trades"),
    ],
)
def test_a_name_of_nothing_is_refused_whatever_the_profile(profile: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        policies(Retention(profile=profile, **settings))  # type: ignore[arg-type]  # one of the two
