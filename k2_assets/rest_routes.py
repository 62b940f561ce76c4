"""The REST routes that serve gold, as the last boxes of the asset graph. The API itself is another process."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files
from k2_assets.orchestration.asset_metadata import NEWEST_ROW, OWNERS, microseconds
from k2_core import clock
from k2_core.lake.tables import CANDLES, GOLD_QUOTES, GOLD_TABLES, GOLD_TRADES
from k2_core.settings import Settings

_LOOK_S: Final = 60.0


@dataclass(frozen=True)
class Route:
    """A route, and the tables that it reads, the one that it is about first."""

    path: str
    tables: tuple[str, ...]
    serves: str

    @property
    def key(self) -> dg.AssetKey:
        """The key of its asset: ``rest/v1/ohlcv/1m``."""
        return dg.AssetKey(["rest", *self.path.strip("/").split("/")])


ROUTES: Final = (
    Route("/v1/trades", (GOLD_TRADES.name,), "Trades, newest first, page by page."),
    Route("/v1/quotes", (GOLD_QUOTES.name,), "Quotes, newest first, page by page."),
    Route("/v1/symbols", (GOLD_TRADES.name,), "The symbols that have trades."),
    *(
        Route(
            f"/v1/ohlcv/{spec.timeframe.name}",
            (spec.name, GOLD_TRADES.name),
            f"{spec.timeframe.words.capitalize()} candles; their completeness is judged by the ids of trades.",
        )
        for spec in CANDLES
        if spec.timeframe is not None
    ),
)
"""Every route that is asked by GET and serves rows of gold."""


def route_assets(settings: Settings) -> list[dg.AssetSpec]:
    """Return the routes as external assets."""
    api = f"http://{settings.api.host}:{settings.ports.api}"
    return [
        dg.AssetSpec(
            route.key,
            deps=route.tables,
            description=f"`GET {route.path}`: {route.serves} Each answer reads the newest commit of the tables, so "
            "that nothing has to be built here. Each run of refine reports the times of the oldest and the newest row.",
            group_name="api",
            kinds={"rest", "fastapi"},
            owners=OWNERS,
            tags={"layer": "api", "data": "candles" if len(route.tables) > 1 else route.path.rpartition("/")[2]},
            metadata={
                "route": f"GET {route.path}",
                "address": dg.MetadataValue.url(f"{api}{route.path}"),
                "documentation": dg.MetadataValue.url(f"{api}/docs"),
            },
        )
        for route in ROUTES
    ]


class RouteReports:
    """Reports once in a run what each route can answer, as soon as its table has rows."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._left = list(ROUTES)
        self._look_at = 0.0

    def due(self) -> Iterator[dg.AssetMaterialization]:
        """Yield what is due. The tables are looked at once a minute, until each route was reported."""
        if not self._left or clock.monotonic() < self._look_at:
            return
        self._look_at = clock.monotonic() + _LOOK_S
        for route in list(self._left):
            table = route.tables[0]
            files = live_files(self._lake.table(table), GOLD_TABLES[table].partition_by)
            if files:
                self._left.remove(route)
                metadata: dict[str, Any] = {
                    "oldest row": microseconds(min(each.first_us for each in files)),
                    NEWEST_ROW: microseconds(max(each.last_us for each in files)),
                    "rows": sum(each.rows for each in files),
                }
                yield dg.AssetMaterialization(route.key, metadata=metadata)
