"""Print rows on standard output: a table for people, JSON or CSV for programs. Knows nothing of the lake.

Anybody may have sent what is printed here: control characters, which could drive a terminal, become escapes.
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
        drawn: the columns that fit on a terminal's line; by default all.
    """
    found = list(rows)
    if form == "json":
        text = json.dumps(found, ensure_ascii=False, indent=2)
        # json escapes the first 32 control characters itself; the line breaks that are left are its own.
        click.echo(re.sub(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]", lambda each: f"\\u{ord(each.group()):04x}", text))
    elif form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for row in found:
            cells = [_cell(row[name]) if isinstance(row[name], str) else row[name] for name in columns]
            # A quote in front keeps a spreadsheet from running a text as a formula.
            writer.writerow(
                [f"'{each}" if isinstance(each, str) and each.startswith(_FORMULA) else each for each in cells]
            )
        click.echo(out.getvalue(), nl=False)
    elif Console().is_terminal:
        # Not every column fits on a terminal's line; JSON, CSV and pipes have them all.
        Console(highlight=False).print(_drawn(found, drawn or columns))
    else:
        lines = ["\t".join(columns), *("\t".join(_cell(row[name]) for name in columns) for row in found)]
        click.echo("\n".join(lines))


def _drawn(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=max((len(str(row[name])) for row in rows), default=0) <= _WORD)
    for row in rows:
        cells = (_cell(row[name]) for name in columns)
        table.add_row(
            *(
                Text(cell if len(cell) <= _LONGEST_CELL else f"{cell[:_LONGEST_CELL]}… ({len(cell):,} characters)")
                for cell in cells
            )
        )
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    return _CONTROLS.sub(lambda each: each.group().encode("unicode_escape").decode(), str(value))
