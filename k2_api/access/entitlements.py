"""Which exchanges a caller may see. Pure; every route narrows its question by it before it reads anything."""

from k2_api.access.caller import Caller
from k2_api.api_errors import NotEntitled
from k2_core.venues import VENUES


def may_see(caller: Caller, exchange: str) -> bool:
    """Tell whether a caller may see an exchange, which is spelt as in the lake: in lower case.

    The asset class of an exchange is that of its venue's module. An exchange without a module has none, and so is seen
    only by callers who may see all asset classes.
    """
    if caller.exchanges and exchange not in caller.exchanges:
        return False
    return not caller.asset_classes or (exchange in VENUES and VENUES[exchange].ASSET_CLASS in caller.asset_classes)


def allowed_exchanges(caller: Caller, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the exchanges that a question is narrowed to: those asked for, or if none are, all that are allowed.

    Empty means every exchange, and is returned only to a caller who may see every exchange.

    Raises:
        NotEntitled: the caller may not see one of those asked for, or sees none at all.
    """
    if asked:
        refused = sorted({exchange for exchange in asked if not may_see(caller, exchange)})
        if refused:
            raise NotEntitled(f"your key does not allow {', '.join(refused)}", {"exchanges": refused})
        return tuple(dict.fromkeys(asked))
    if not caller.exchanges and not caller.asset_classes:
        return ()
    allowed = tuple(exchange for exchange in caller.exchanges or VENUES if may_see(caller, exchange))
    if not allowed:  # an empty answer would mean every exchange
        raise NotEntitled("your key allows no exchange: its exchanges are not of its asset classes")
    return allowed


def allowed_rows(caller: Caller, limit: int) -> int:
    """Return the most rows of an answer of which at most ``limit`` were asked for."""
    return limit if caller.row_limit is None else min(limit, caller.row_limit)
