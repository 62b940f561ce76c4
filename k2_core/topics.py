"""Kafka topics and their subjects: names, schemas, settings. Nothing here talks to Kafka."""

import re
from importlib import resources
from typing import Final

FEED_EVENTS: Final = "market.feed.events"
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024

_RAW = re.compile(r"market\.(?P<asset_class>[a-z]+)\.(?P<kind>trades|quotes)\.(?P<venue>[a-z0-9_]+)\.raw")


def raw_topic(asset_class: str, kind: str, venue: str) -> str:
    """Return the topic of a venue's frames: ``market.crypto.trades.binance.raw``."""
    topic = f"market.{asset_class}.{kind}.{venue}.raw"
    if not _RAW.fullmatch(topic):
        msg = f"{topic!r} is not a topic of raw frames"
        raise ValueError(msg)
    return topic


def venue_of(topic: str) -> str | None:
    """Return the venue whose frames are in a topic; None for a topic of other things."""
    found = _RAW.fullmatch(topic)
    return found["venue"] if found else None


def subject(topic: str) -> str:
    """Return the registry's subject of a topic's values."""
    return f"{topic}-value"


def raw_frame_schema() -> str:
    """Return the Avro schema of :class:`k2_core.raw_frame.RawFrame`, as JSON."""
    return _schema("raw_frame")


def feed_event_schema() -> str:
    """Return the Avro schema of a feed event, as JSON."""
    return _schema("feed_event")


def topic_settings(retention_days: int) -> dict[str, str]:
    """Return the settings every topic of K2 is made with.

    ``LogAppendTime``: with the producer's time, Kafka would delete a replayed old recording at once.
    """
    return {
        "compression.type": "lz4",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(retention_days * 86_400_000),
    }


def _schema(name: str) -> str:
    return resources.files("k2_core").joinpath("schemas", f"{name}.avsc").read_text(encoding="utf-8")
