"""The reference of settings as Markdown: ``python -m k2_core.settings_reference > docs/settings.md``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from k2_core.settings import Settings

_HEAD: Final = """\
# Settings

Generated from `k2_core/settings.py` by `python -m k2_core.settings_reference`; a test holds this page against it.

Settings are environment variables, read once when a process starts. An empty variable counts as unset. Lists and maps
are written as JSON: `K2_FEEDS__BINANCE__SYMBOLS='["BTCUSDT","SOLUSDT"]'`. A variable that begins with `K2_` and is not
listed here is refused, and so is a value out of bounds: one sentence names the variable, and nothing is started.
`make up K2_HOME=/data/k2` passes a variable on.

Downloads (Kafka, the schema registry) are kept in `$XDG_CACHE_HOME/k2`, or `~/.cache/k2`, for all homes.
`K2_TEST_RECORDINGS` names the folder of recordings that the tests play.
"""
_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    SecretStr: "secret text",
    tuple: "list",
    dict: "map",
    Path: "path",
}


def settings_reference(settings: type[BaseModel]) -> str:
    """Return the reference of a settings class and of its sections as Markdown."""
    return _HEAD + "".join(_sections("K2", "Home", settings, ""))


def _sections(prefix: str, title: str, section: type[BaseModel], doc: str) -> Iterator[str]:
    """Yield a section's own settings, then its subsections'."""
    rows, inner = "", []
    for name, field in section.model_fields.items():
        variable = f"{prefix}{'_' if prefix == 'K2' else '__'}{name.upper()}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner.append((variable, name.capitalize(), kind, f"{(kind.__doc__ or '').strip()}\n\n"))
            continue
        value = {} if field.default is PydanticUndefined else field.default
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
        elif isinstance(value, tuple | dict):
            text = json.dumps(value, separators=(",", ":"))
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
        default = "unset" if value is None else f"`{text}`"
        rows += f"| `{variable}` | {_kind(field)} | {default} | {field.description or ''} |\n"
    if rows:
        yield f"\n## {title}\n\n{doc}| variable | type | default | meaning |\n|---|---|---|---|\n{rows}"
    for of_section in inner:
        yield from _sections(*of_section)


def _kind(field: FieldInfo) -> str:
    kind: Any = get_origin(field.annotation)
    if kind is Literal:
        return " or ".join(get_args(field.annotation))
    if kind not in {tuple, dict}:  # a plain type, or one that may be None
        kind = (get_args(field.annotation) or (field.annotation,))[0]
    bounds = [
        f"{word} {getattr(bound, name)}"
        for bound in field.metadata
        for name, word in (("ge", "from"), ("gt", "above"), ("le", "to"))
        if hasattr(bound, name)
    ]
    return f"{_NAMES[kind]}{', ' if bounds else ''}{' '.join(bounds)}"


if __name__ == "__main__":
    sys.stdout.write(settings_reference(Settings))
