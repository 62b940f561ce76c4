"""Who asks, and what its key allows."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Role = Literal["reader", "analyst", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
DEFAULT_RATE: Final = 100
"""Requests a minute."""


@dataclass(frozen=True)
class Caller:
    """One key, without its secret.

    Args:
        key_id: names it in commands and logs.
        name: what people call it.
        role: of the caller.
        exchanges: that it may see; empty: all.
        asset_classes: that it may see; empty: all.
        row_limit: most rows in one answer; None: as many as a route allows.
        rate: most requests a minute; None: no limit.
    """

    key_id: str
    name: str
    role: Role
    exchanges: tuple[str, ...] = ()
    asset_classes: tuple[str, ...] = ()
    row_limit: int | None = None
    rate: int | None = DEFAULT_RATE
