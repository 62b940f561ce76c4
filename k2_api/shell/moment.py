"""A time as an option of a command."""

from datetime import datetime
from typing import Any

import click

from k2_api.timestamps import parse_moment


class Moment(click.ParamType[datetime]):
    """A time as RFC 3339; without a zone it is UTC, a date alone is its midnight."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment that a user wrote."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
