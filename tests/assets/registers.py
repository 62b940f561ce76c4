"""Venues' lists of instruments as a test wants them, and a lake that they are taken into."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k2_assets.reference.register_refresh import VenueRefresh
from k2_assets.reference.register_versions import Changes, Row
from k2_core.lake.tables import REFERENCE_INSTRUMENTS
from k2_core.settings import Settings
from k2_core.venues import VENUES
from tests.assets.lakes import SmallLake


def binance_list(*symbols: str, **fields: Any) -> bytes:
    """Binance's list of symbols such as ``BTC/USDT``; ``fields`` replace those of each."""
    return json.dumps({"symbols": [_binance_symbol(each) | fields for each in symbols]}).encode()


def _binance_symbol(name: str, tick_size: str = "0.01000000") -> dict[str, Any]:
    base, quote = name.split("/")
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": tick_size},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
    ]
    return {"symbol": base + quote, "status": "TRADING", "baseAsset": base, "quoteAsset": quote, "filters": filters}


@dataclass
class Registered:
    """A lake with a register, and what the venue answers."""

    home: Path
    exchange: str = "binance"
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lake = SmallLake(self.home)
        self.settings: Settings = self.lake.settings

    def refresh(self, body: bytes) -> Changes:
        """Take in a list, as the asset does."""

        def answer(url: str) -> bytes:
            self.asked.append(url)
            return body

        return VenueRefresh(self.lake.catalog, self.settings, VENUES[self.exchange], answer).run()[1]

    def versions(self, venue_symbol: str) -> list[Row]:
        """The versions of a symbol in their order."""
        rows = [row for row in self.lake.rows(REFERENCE_INSTRUMENTS) if row["venue_symbol"] == venue_symbol]
        return sorted(rows, key=lambda row: row["valid_from"])

    def snapshots(self) -> int:
        return self.lake.snapshots(REFERENCE_INSTRUMENTS)
