"""Headers that tell browsers what they may do with an answer. Pure."""

from typing import Final

_EVERYWHERE: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_DATA: Final = "default-src 'none'; frame-ancestors 'none'"
# The pages of the documentation carry a script and styles of their own, and load the rest from this server alone.
_PAGES: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PATHS_OF_PAGES: Final = ("/docs", "/redoc")


def security_headers(path: str) -> dict[str, str]:
    """Return the headers of an answer to a request for ``path``."""
    is_page = path.startswith(_PATHS_OF_PAGES)
    return {**_EVERYWHERE, "Content-Security-Policy": _PAGES if is_page else _DATA}
