"""The producer: values go to Kafka in order, acknowledged by all replicas, and never vanish silently."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2_core import clock
from k2_core.errors import TopicError
from k2_core.logs import logger
from k2_core.topics import MAX_MESSAGE_BYTES
from k2_feeds.kafka.acknowledgements import Acknowledgements, Mark, Place

_log = logger(__name__)
_FULL_RETRY_S: Final = 0.005
_NO_TOPIC: Final = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART}  # noqa: SLF001  # librdkafka's names
_TOPIC_IS_BACK_S: Final = 60.0  # a deleted topic is created again within some seconds; no frame is dropped for it
_OVERHEAD_BYTES: Final = 256  # of librdkafka and its Python client, for each value that waits
_STATISTICS_MS: Final = 500
BUFFER_MB: Final = 64
AWAY_AFTER_S: Final = 5.0


class Item(NamedTuple):
    """One value on its way to Kafka."""

    place: Place
    key: bytes
    value: bytes


def producer_settings(bootstrap_servers: str, buffer_mb: int = BUFFER_MB) -> dict[str, object]:
    """Return librdkafka's settings of the feed's producer.

    ``message.timeout.ms`` 0: the producer never gives a value up, however long Kafka is away. Waiting values take at
    most ``buffer_mb`` of memory: half of it for the values, half for librdkafka's overhead.
    """
    half = buffer_mb * 1024 * 1024 // 2
    return {
        "bootstrap.servers": bootstrap_servers,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 20,
        "batch.num.messages": 20_000,
        "batch.size": 1_000_000,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "message.timeout.ms": 0,
        "queue.buffering.max.messages": half // _OVERHEAD_BYTES,
        "queue.buffering.max.kbytes": max(half // 1024, 2 * MAX_MESSAGE_BYTES // 1024),
        "delivery.report.only.error": True,
        "statistics.interval.ms": _STATISTICS_MS,
    }


class Publisher:
    """Hand values to Kafka from one thread.

    ``put`` never blocks. A value that the producer's full queue does not take waits here, and so does one whose
    topic was deleted; ``full`` is then true. The caller then gives no more until ``wait_until_accepted`` returns,
    so that only a few values wait: the feed waits for a slow Kafka. If Kafka acknowledges nothing for
    ``away_after_s`` while the queue is full, it is ``away``: ``put`` refuses values until Kafka takes some again,
    and the caller counts what is dropped. Values given to ``keep`` are never refused.

    Args:
        bootstrap_servers: Kafka's address.
        buffer_mb: memory that waiting values may take.
        away_after_s: how long a full queue waits for an acknowledgement.

    ``on_failure`` are called with topic, value and reason of each value that Kafka refused for good; ``missing``
    returns a sentence while a topic is deleted.
    """

    def __init__(
        self, bootstrap_servers: str, *, buffer_mb: int = BUFFER_MB, away_after_s: float = AWAY_AFTER_S
    ) -> None:
        self.on_failure: list[Callable[[str, bytes, str], None]] = []
        self.missing: Callable[[], str] = str
        self.handed = 0
        self.failed = 0
        self.away = False
        self.away_because = ""
        self._away_after_s = away_after_s
        self._fatal: str | None = None
        self._waiting: deque[Item] = deque()
        self._kept: deque[Item] = deque()
        self._trouble = ""
        self._trouble_after = 0
        self._blocked_by_topic = False
        self._moved_at, self._moved_to = clock.monotonic(), 0
        self._acknowledgements = Acknowledgements()
        settings = producer_settings(bootstrap_servers, buffer_mb)
        callbacks = {
            "on_delivery": self._undelivered,
            "error_cb": self._error,
            "stats_cb": lambda text: self._acknowledgements.read(text, idle=not self.unacknowledged),
        }
        self._producer = Producer({**settings, **callbacks, "log_level": 0})
        self._produce = self._producer.produce
        self.poll = self._producer.poll
        self.place = self._acknowledgements.place

    @property
    def full(self) -> bool:
        """Whether values wait because the producer's queue is full."""
        return bool(self._waiting) and not self.away

    @property
    def unacknowledged(self) -> int:
        return len(self._producer) + len(self._waiting) + len(self._kept)

    @property
    def acknowledged(self) -> int:
        return self.handed - self.failed - self.unacknowledged

    @property
    def trouble(self) -> str:
        """The last error of the Kafka client, if nothing was acknowledged since."""
        return self.missing() or (self._trouble if self.acknowledged <= self._trouble_after else "")

    def put(self, place: Place, key: bytes, value: bytes) -> bool:
        """Take one value for a partition, behind all earlier ones; return False if Kafka is away."""
        if self._waiting:  # behind the others, so that the order stays
            if self.away:
                return False
            self._waiting.append(Item(place, key, value))
        else:
            try:
                self._produce(place.topic, value, key, place.partition)
                place.given += 1
            except (BufferError, KafkaException) as error:
                self._not_taken(error, Item(place, key, value), self._waiting)
        self.handed += 1
        return True

    def keep(self, place: Place, key: bytes, value: bytes) -> None:
        """Take one value that must not be dropped, however long Kafka is away; it overtakes values that wait."""
        self.handed += 1
        self._kept.append(Item(place, key, value))
        self._hand_on(self._kept)

    async def wait_until_accepted(self) -> None:
        """Wait until the producer's queue has taken all values that waited, or Kafka counts as away."""
        while not self.away and not self.retry():
            self._look()
            await asyncio.sleep(_FULL_RETRY_S)

    def retry(self) -> bool:
        """Hand values that wait to the producer; tell whether none wait any more."""
        self.poll(0)
        self._hand_on(self._kept)
        if not self._hand_on(self._waiting):
            return False
        if self.away:
            self.away = False
            _log.warning("Kafka takes values again")
        return True

    def serve(self) -> None:
        """Serve the producer's callbacks; call it a few times a second.

        Raises:
            TopicError: the producer can never deliver again, and the process must be restarted.
        """
        self.retry()
        self._look()
        if self._fatal is not None:
            msg = f"Kafka's producer had to stop for good: {self._fatal}; the feed must be started again."
            raise TopicError(msg)

    def flush(self, timeout_s: float) -> int:
        """Wait until all is acknowledged, at most ``timeout_s``; return how many values are not."""
        until = clock.monotonic() + timeout_s
        while not self.retry() and clock.monotonic() < until:
            self.poll(0.1)
        self._producer.flush(max(until - clock.monotonic(), 0.0))
        left = self.unacknowledged
        if left:
            _log.error("values were not acknowledged in time", left=left)
        return left

    def mark(self) -> Mark | None:
        """Return how many values of each partition have been handed over; None while some wait."""
        return None if self._waiting or self._kept else self._acknowledgements.mark()

    def has_acknowledged(self, mark: Mark) -> bool:
        """Tell whether Kafka holds all that had been handed over at ``mark``."""
        return not self.unacknowledged or self._acknowledgements.reached(mark)

    def _hand_on(self, items: deque[Item]) -> bool:
        # An item is removed only once the producer has taken it, or Kafka never will.
        while items:
            place, key, value = item = items[0]
            try:
                self._produce(place.topic, value, key, place.partition)
                place.given += 1
            except (BufferError, KafkaException) as error:
                if not self._not_taken(error, item, None):
                    return False
            items.popleft()
        return True

    def _not_taken(self, error: BufferError | KafkaException, item: Item, waiting: deque[Item] | None) -> bool:
        """Let a value that the producer does not take now wait; tell whether Kafka never takes it."""
        code = error.args[0].code() if isinstance(error, KafkaException) else None
        if code is not None and code not in _NO_TOPIC:
            self._failed(item.place.topic, item.value, error.args[0].str())
            return True
        self._blocked_by_topic = code is not None
        if waiting is not None:
            waiting.append(item)
        return False

    def _look(self) -> None:
        """Notice whether Kafka acknowledges values, and after too long without any that it is away."""
        # Only a full queue counts: while it takes values, nothing is lost by waiting.
        now, acknowledged = clock.monotonic(), self.acknowledged
        if acknowledged != self._moved_to or not self.unacknowledged:
            self._moved_at, self._moved_to = now, acknowledged
        patience_s = _TOPIC_IS_BACK_S if self._blocked_by_topic else self._away_after_s
        if self.full and now - self._moved_at > patience_s:
            self.away_because = f"Kafka acknowledged nothing for {patience_s:g} s and the buffer was full"
            self.away = True
            _log.error("Kafka is away: frames are dropped", reason=self.trouble or self.away_because)

    def _undelivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        topic, partition, key, value = message.topic(), message.partition(), message.key(), message.value()
        if error.code() in _NO_TOPIC and topic is not None and partition is not None:
            # The topic was deleted. The value waits until it is back; marks that counted it are no longer valid.
            self._blocked_by_topic = True
            self._acknowledgements.recount()
            self._waiting.append(Item(self.place(topic, partition), key or b"", value or b""))
            return
        self._failed(topic or "", value or b"", error.str())

    def _failed(self, topic: str, value: bytes, reason: str) -> None:
        self.failed += 1
        _log.error("Kafka refused a value", reason=reason, topic=topic, bytes=len(value))
        for call in self.on_failure:
            call(topic, value, reason)

    def _error(self, error: KafkaError) -> None:
        self._trouble, self._trouble_after = error.str(), self.acknowledged
        if error.fatal():
            self._fatal = error.str()
        _log.warning("Kafka client", reason=error.str(), fatal=error.fatal())
