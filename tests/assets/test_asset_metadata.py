from datetime import UTC, datetime
from decimal import Decimal

import polars as pl

from k2_assets.orchestration.asset_metadata import markdown_table


def test_a_table_as_text_survives_any_symbol_and_rounds_nothing() -> None:
    rows = pl.DataFrame(
        {
            "symbol": ["A|B\nC", "BTCUSDT"],
            "at": [datetime(2024, 8, 9, tzinfo=UTC)] * 2,
            "price": [Decimal("0.000000010000"), Decimal("61234.500000000000")],
            "hidden": [1, 2],
        }
    )

    assert markdown_table(rows, ("symbol", "at", "price")).md_str == "\n".join(
        [
            "| symbol | at | price |",
            "| --- | --- | --- |",
            r"| A\|B C | 2024-08-09 00:00:00Z | 0.00000001 |",
            "| BTCUSDT | 2024-08-09 00:00:00Z | 61234.5 |",
        ]
    )
