import re
from pathlib import Path

from pydantic import BaseModel, Field

from k2_core.dictionary import dictionary
from k2_core.lake.tables import GOLD_TRADES, all_tables
from k2_core.settings import Settings
from k2_core.settings_reference import settings_reference
from k2_core.trades import REASONS
from k2_core.venues import VENUES

DOCS = Path(__file__).parents[2] / "docs"


def test_data_dictionary_stands_as_generated_when_tables_change() -> None:
    made = dictionary(all_tables(tuple(VENUES)), VENUES)

    assert (DOCS / "data-dictionary.md").read_text() == made, (
        "run: python -m k2_core.dictionary > docs/data-dictionary.md"
    )


def test_data_dictionary_tells_every_column_and_reason_when_it_is_made() -> None:
    made = dictionary([GOLD_TRADES], ("binance",))

    for column in GOLD_TRADES.columns:
        assert f"| {column.name} | {column.kind} |" in made
    assert "| price | decimal(28, 12) | yes | exactly as the venue wrote it |" in made
    assert all(f"| {reason} | " in made for reason in REASONS)


def test_settings_reference_stands_as_generated_when_settings_change() -> None:
    made = settings_reference(Settings)

    assert (DOCS / "settings.md").read_text() == made, "run: python -m k2_core.settings_reference > docs/settings.md"


def test_settings_reference_says_what_each_setting_means() -> None:
    rows = re.findall(r"^\| `(K2_\w+)` \| .+ \| .+ \| (.*) \|$", settings_reference(Settings), re.MULTILINE)

    assert len(rows) > 40
    assert [name for name, meaning in rows if not meaning] == []


def test_settings_reference_spells_names_bounds_and_defaults_when_sections_nest() -> None:
    class Inner(BaseModel):
        """What is inside."""

        depth: int = Field(3, ge=1, le=9, description="in metres")

    class Outer(BaseModel):
        inner: Inner = Inner()
        label: str | None = Field(None, description="for people")

    made = settings_reference(Outer)

    assert "| `K2_LABEL` | text | unset | for people |" in made
    assert "## Inner\n\nWhat is inside.\n" in made
    assert "| `K2_INNER__DEPTH` | integer, from 1 to 9 | `3` | in metres |" in made
