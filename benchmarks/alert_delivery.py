"""How long it takes until bad rows in Kafka are an alert at a webhook, and until the recovery is.

    export K2_ALERTS__URLS='["json://127.0.0.1:8765/"]' K2_ALERTS__AGAIN_AFTER_S=0
    k2 up --detach --source simulator
    python benchmarks/alert_delivery.py --port 8765 --rounds 10

Each round puts bad trades among the venue's own for ten seconds: frames whose price is no price, one in twenty. Alert:
from the first bad frame to the POST that names the check. Recovery: from the last bad frame to the POST that says it.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from confluent_kafka import Consumer, Producer, TopicPartition
from real_parts import machine

from k2_core import clock
from k2_core.raw_frame import Encoder, schema_id_of
from k2_core.settings import load_settings
from k2_core.topics import raw_topic

TOPIC = raw_topic("crypto", "trades", "binance")
CHECK = "reject_rate"
BAD_S = 10
PATIENCE_S = 300


class Hook:
    """The POSTs that came, each with the time (monotonic, seconds)."""

    def __init__(self, port: int) -> None:
        self.posts: list[tuple[float, str]] = []
        hook = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                hook.posts.append((clock.monotonic(), body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, since: float, *, recovered: bool) -> float:
        """Return when the first POST came, after ``since``, that names the check as bad or as recovered."""
        while clock.monotonic() < since + PATIENCE_S:
            for at, body in self.posts:
                message = json.loads(body)
                # A recovery is "info" while something else that was reported is still bad.
                is_recovery = message["type"] in {"success", "info"}
                if at > since and CHECK in message["message"] and is_recovery == recovered:
                    return at
            time.sleep(0.05)
        raise SystemExit(f"no POST within {PATIENCE_S} s; there were: {self.posts[-3:]}")


def last_message(servers: str) -> tuple[bytes, float]:
    """Return a message of the topic, and how many come in a second."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "benchmark", "enable.auto.commit": False})
    try:
        partitions = [TopicPartition(TOPIC, each) for each in consumer.list_topics(TOPIC).topics[TOPIC].partitions]

        def ends() -> list[int]:
            return [consumer.get_watermark_offsets(each)[1] for each in partitions]

        began, before = clock.monotonic(), ends()
        time.sleep(5)
        after = ends()
        rate = (sum(after) - sum(before)) / (clock.monotonic() - began)
        busiest = max(range(len(after)), key=lambda place: after[place] - before[place])
        consumer.assign([TopicPartition(TOPIC, partitions[busiest].partition, after[busiest] - 1)])
        message = consumer.poll(10)
        if message is None or message.value() is None:
            raise SystemExit(f"{TOPIC} has no messages: is the platform running?")
        return message.value(), rate
    finally:
        consumer.close()


def bad_frames(encoder: Encoder) -> Iterator[bytes]:
    for number in range(10**9):
        now_ms = clock.now_ns() // 1_000_000
        data = {"e": "trade", "E": now_ms, "s": "BTCUSDT", "t": number, "p": "none", "q": "1", "T": now_ms, "m": True}
        payload = json.dumps({"stream": "btcusdt@trade", "data": data}).encode()
        yield encoder.encode(clock.now_ns(), number, "trade", "BTCUSDT", payload)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True, help="of the webhook that K2_ALERTS__URLS names")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    servers, hook = load_settings().bootstrap_servers, Hook(options.port)
    value, rate = last_message(servers)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
    frames = bad_frames(Encoder(schema_id_of(value), "binance", "00000000-0000-4000-8000-0000000000be"))
    alerts, recoveries = [], []
    for number in range(options.rounds):
        began = clock.monotonic()
        sent = 0
        while (passed := clock.monotonic() - began) < BAD_S:
            for _ in range(max(1, int(passed * rate / 19)) - sent):
                producer.produce(TOPIC, next(frames), key=b"BTCUSDT")
                sent += 1
            producer.flush()
            time.sleep(0.05)
        ended = clock.monotonic()
        alerts.append(hook.wait(began, recovered=False) - began)
        recoveries.append(hook.wait(ended, recovered=True) - ended)
        print(
            f"{number + 1}: {sent} bad frames among {rate:.0f}/s; "
            f"alert {alerts[-1]:.1f} s, recovery {recoveries[-1]:.1f} s"
        )
        time.sleep(number % 5)  # another moment of the drain's and the sensor's intervals
    for name, found in (("alert", alerts), ("recovery", recoveries)):
        print(f"{name}: median {statistics.median(found):.1f} s, at most {max(found):.1f} s (n={len(found)})")
    print(machine())


if __name__ == "__main__":
    main()
