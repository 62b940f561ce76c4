"""The only module that configures logging: one JSON object a line on standard error."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import structlog

_FILE_BYTES: Final = 20_000_000


def configure(part: str, level: int = logging.INFO) -> None:
    """Send all logs of this process to standard error as JSON lines that name ``part``."""
    import structlog  # noqa: PLC0415  # takes a fifth of a second, and most commands log nothing

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for chatty in ("websockets", "httpx", "httpx2"):  # they say every connection and every request otherwise
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    structlog.contextvars.bind_contextvars(part=part)


@contextmanager
def also_in(file: Path) -> Iterator[None]:
    """Append what this process logs to a file as well; beyond 20 MB it moves to ``.1``."""
    root = logging.getLogger()
    with suppress(OSError):  # on a full disk lines are lost, and nothing else
        file.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=1, delay=True)
    for configured in root.handlers:
        handler.setFormatter(configured.formatter)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def logger(name: str) -> "structlog.stdlib.BoundLogger":
    """Return a logger: ``log.info("what happened", topic=…, offset=…)``."""
    return cast("structlog.stdlib.BoundLogger", _Logger(name))


class _Logger:
    """A logger of structlog that is made when it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._made: structlog.stdlib.BoundLogger | None = None

    def __getattr__(self, method: str) -> Any:
        if self._made is None:
            import structlog  # noqa: PLC0415

            self._made = structlog.stdlib.get_logger(self._name)
        return getattr(self._made, method)
