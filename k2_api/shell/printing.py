"""Rows on standard output: a table for people, JSON or CSV for programs. Knows no lake.

What is printed may come from anybody: control characters, which could drive a terminal, are written as escapes.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

Form = Literal["table", "json", "csv"]
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_LONGEST_CELL: Final = 120
_WORD: Final = 30  # characters of a time or a name, which is not broken over lines
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], form: Form, drawn: Sequence[str] = ()
) -> None:
    """Print rows: drawn on a terminal, else one line each with tabs between; JSON is an array, CSV has a header.

    Args:
        rows: by column.
        columns: in their order.
        form: of the output.
        drawn: the columns that a terminal has room for; by default all.
    """
    found = list(rows)
    if form == "json":
        click.echo(_escaped_json(found))
    elif form == "csv":
        click.echo(_as_csv(found, columns), nl=False)
    elif Console().is_terminal:
        Console(highlight=False).print(_drawn(found, drawn or columns))
    else:
        lines = ["\t".join(columns), *("\t".join(_cell(row[name]) for name in columns) for row in found)]
        click.echo("\n".join(lines))


def _drawn(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=max((len(str(row[name])) for row in rows), default=0) <= _WORD)
    for row in rows:
        table.add_row(*(Text(_shortened(_cell(row[name]))) for name in columns))
    return table


def _cell(value: object) -> str:
    return "" if value is None else _CONTROLS.sub(_escape, str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}… ({len(text):,} characters)"


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()


def _escaped_json(rows: list[Mapping[str, Any]]) -> str:
    text = json.dumps(
        rows, ensure_ascii=False, indent=2
    )  # escapes the first 32 itself, and its own line breaks are real
    return re.sub(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]", lambda found: f"\\u{ord(found.group()):04x}", text)


def _as_csv(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_harmless(row[name]) for name in columns] for row in rows)
    return out.getvalue()


def _harmless(value: object) -> object:
    """Keep a spreadsheet from running a text as a formula."""
    if not isinstance(value, str):
        return value
    text = _cell(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
