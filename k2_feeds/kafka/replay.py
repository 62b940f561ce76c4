"""Read partitions from a time, or their newest messages, up to their present end. Blocks."""

import threading
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from k2_feeds.kafka.provision import Stopped

_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.5
_BATCH: Final = 5_000


def a_consumer(bootstrap_servers: str) -> Consumer:
    """Return a consumer that belongs to no group and moves no offsets."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "k2-feed",  # the client needs a name; it never joins the group
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 5,
            "log_level": 0,
        }
    )


def replay(
    consumer: Consumer, places: list[tuple[str, int]], since_ms: int | None, newest: int, stop: threading.Event
) -> Iterator[bytes]:
    """Yield values of partitions, those of each partition in order.

    They are those that Kafka received from ``since_ms`` on; without it the ``newest`` of each partition.

    Raises:
        KafkaException: Kafka is away.
        Stopped: ``stop`` was set meanwhile.
    """
    open_until = {}
    for topic, partition in places:
        low, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
        first = max(low, end - newest)
        if since_ms is not None:
            (found,) = consumer.offsets_for_times([TopicPartition(topic, partition, since_ms)], timeout=_TIMEOUT_S)
            if found.error is not None:
                raise KafkaException(found.error)
            first = max(low, found.offset) if found.offset >= 0 else end
        if first < end:
            open_until[topic, partition] = first, end
    consumer.assign([TopicPartition(*place, first) for place, (first, _) in open_until.items()])
    while open_until:
        if stop.is_set():
            raise Stopped
        for message in consumer.consume(_BATCH, timeout=_POLL_S):
            place = message.topic() or "", message.partition() or 0
            if place not in open_until:
                continue
            error = message.error()
            if error is None:
                yield message.value() or b""
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # librdkafka's name
                raise KafkaException(error)
            # There may be no message at the last offset; the client then reports the end of the partition.
            if error is not None or (message.offset() or 0) >= open_until[place][1] - 1:
                del open_until[place]
    consumer.unassign()
