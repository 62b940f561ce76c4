"""The producer: values go to Kafka in order, acknowledged by all replicas, and never vanish silently."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2_core.errors import TopicError
from k2_core.logs import logger
from k2_core.topics import MAX_MESSAGE_BYTES

_log = logger(__name__)
_ROOM_RETRY_S: Final = 0.005
_NO_TOPIC: Final = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART}  # noqa: SLF001  # librdkafka's names
QUEUE_MESSAGES: Final = 400_000
QUEUE_KBYTES: Final = 128 * 1024


class Item(NamedTuple):
    """One value on its way to Kafka."""

    topic: str
    partition: int
    key: bytes
    value: bytes


def producer_settings(bootstrap_servers: str) -> dict[str, object]:
    """Return librdkafka's settings of the feed's producer.

    ``message.timeout.ms`` 0: while Kafka is away nothing is given up. The bounded queue fills, the feed stops reading
    its socket, and what the venue could not send then shows as a gap.
    """
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
        "queue.buffering.max.messages": QUEUE_MESSAGES,
        "queue.buffering.max.kbytes": QUEUE_KBYTES,
        "delivery.report.only.error": True,
    }


class Publisher:
    """Hand values to Kafka from one thread.

    ``put`` never blocks and never loses: what the producer's full queue does not take waits here, as does what finds no
    topic because somebody deleted it, and ``full`` says so. A caller then gives nothing more until ``room`` returns,
    so that never more than a few values wait.

    Args:
        bootstrap_servers: Kafka's address.

    ``on_failure`` is called with topic, value and reason of each value that Kafka refused for good; ``missing`` says
    which topic was deleted, if one was.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self.on_failure: Callable[[str, bytes, str], None] | None = None
        self.missing: Callable[[], str] = str
        self._fatal: str | None = None
        self._waiting: deque[Item] = deque()
        self.handed = 0
        self.failed = 0
        self._trouble = ""
        self._trouble_after = 0
        settings = producer_settings(bootstrap_servers)
        self._producer = Producer(
            {**settings, "on_delivery": self._undelivered, "error_cb": self._error, "log_level": 0}
        )
        self._produce = self._producer.produce
        self.poll = self._producer.poll

    @property
    def full(self) -> bool:
        """Whether values wait because the producer's queue is full."""
        return bool(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """How many values are not yet acknowledged by Kafka."""
        return len(self._producer) + len(self._waiting)

    @property
    def acknowledged(self) -> int:
        """How many values Kafka has acknowledged."""
        return self.handed - self.failed - self.unacknowledged

    @property
    def trouble(self) -> str:
        """What the Kafka client complained about, if nothing was acknowledged since."""
        return self.missing() or (self._trouble if self.acknowledged <= self._trouble_after else "")

    def put(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Take one value for a partition, behind all earlier ones."""
        self.handed += 1
        if self._waiting:
            self._waiting.append(Item(topic, partition, key, value))
            return
        try:
            self._produce(topic, value, key, partition)
        except BufferError:
            self._waiting.append(Item(topic, partition, key, value))
        except KafkaException as error:
            if error.args[0].code() in _NO_TOPIC:
                self._waiting.append(Item(topic, partition, key, value))
                return
            self._failed(topic, value, error.args[0].str())

    async def room(self) -> None:
        """Wait until nothing waits in front of the producer's queue any more."""
        while not self.retry():  # noqa: ASYNC110  # the producer has no event to wait for
            await asyncio.sleep(_ROOM_RETRY_S)

    def retry(self) -> bool:
        """Try once more what waits; tell whether nothing waits any more."""
        self.poll(0)
        while self._waiting:
            item = self._waiting[0]
            try:
                self._produce(item.topic, item.value, item.key, item.partition)
            except BufferError:
                return False
            except KafkaException as error:
                if error.args[0].code() in _NO_TOPIC:
                    return False
                self._failed(item.topic, item.value, error.args[0].str())
            self._waiting.popleft()
        return True

    def serve(self) -> None:
        """Serve the producer's callbacks; call it a few times a second.

        Raises:
            TopicError: the producer can never deliver again, and the process must start anew.
        """
        self.poll(0)
        if self._fatal is not None:
            msg = f"Kafka's producer had to stop for good: {self._fatal}; the feed must be started again."
            raise TopicError(msg)

    def flush(self, timeout_s: float) -> int:
        """Wait until all is acknowledged, at most ``timeout_s``; return how many values are not."""
        self.retry()
        while self._waiting and timeout_s > 0:
            self.poll(0.1)
            timeout_s -= 0.1
            self.retry()
        self._producer.flush(max(timeout_s, 0.0))
        left = self.unacknowledged
        if left:
            _log.error("values were not acknowledged in time", left=left)
        return left

    def _undelivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        topic, partition, key, value = message.topic(), message.partition(), message.key(), message.value()
        if error.code() in _NO_TOPIC and None not in (topic, partition):
            self._waiting.append(Item(topic or "", partition or 0, key or b"", value or b""))
            return
        self._failed(topic or "", value or b"", error.str())

    def _failed(self, topic: str, value: bytes, reason: str) -> None:
        self.failed += 1
        _log.error("Kafka refused a value", reason=reason, topic=topic, bytes=len(value))
        if self.on_failure is not None:
            self.on_failure(topic, value, reason)

    def _error(self, error: KafkaError) -> None:
        self._trouble, self._trouble_after = error.str(), self.acknowledged
        if error.fatal():
            self._fatal = error.str()
        _log.warning("Kafka client", reason=error.str(), fatal=error.fatal())
