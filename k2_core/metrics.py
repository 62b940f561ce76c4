"""Prometheus metrics of every package, defined once; a package only sets them. Labels are part of the interface."""

from prometheus_client import Counter, Gauge, Histogram

# --- the REST API: `endpoint` is the route's template, never the path that was asked for

HTTP_REQUESTS = Counter("k2_http_requests_total", "Requests that were answered.", ["method", "endpoint", "status_code"])
HTTP_REQUEST_DURATION = Histogram(
    "k2_http_request_duration_seconds",
    "From the request's first byte to the answer's last.",
    ["method", "endpoint", "status_code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HTTP_IN_PROGRESS = Gauge("k2_http_requests_in_progress", "Requests being answered now.", ["method"])
HTTP_RESPONSE_BYTES = Histogram(
    "k2_http_response_bytes",
    "Bytes of an answer's body.",
    ["method", "endpoint", "status_code"],
    buckets=(1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000),
)
RATE_LIMITED = Counter("k2_rate_limited_total", "Requests that were refused, since their key had used up its rate.")
QUERY_EXECUTIONS = Counter("k2_query_executions_total", "Queries that were run.", ["engine", "query_type"])
QUERY_DURATION = Histogram(
    "k2_query_duration_seconds",
    "From a query's start to its last row.",
    ["engine", "query_type"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUERY_ROWS = Histogram(
    "k2_query_rows_returned",
    "Rows that a query returned.",
    ["engine", "query_type"],
    buckets=(0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
)

# --- feeds: read from the feed's own counts whenever it is scraped

FEED_PRODUCED = Counter(
    "k2_kafka_messages_produced_total", "Messages that Kafka has acknowledged.", ["exchange", "topic"]
)
FEED_PRODUCE_ERRORS = Counter(
    "k2_kafka_produce_errors_total", "Messages that Kafka refused for good.", ["exchange", "topic"]
)
FEED_CONNECTED = Gauge(
    "k2_feed_connection_status", "1 while every connection to the venue is open, else 0.", ["exchange"]
)
FEED_RECEIVED = Counter("k2_feed_messages_received_total", "Frames that were received.", ["exchange"])
FEED_MESSAGE_ERRORS = Counter(
    "k2_feed_message_errors_total", "Frames that were unreadable or too large to be published.", ["exchange"]
)
FEED_RECONNECTS = Counter("k2_feed_reconnects_total", "Connections that ended or failed.", ["exchange", "reason"])
FEED_LAST_MESSAGE = Gauge(
    "k2_feed_last_message_timestamp_seconds", "When the last frame was received, Unix time.", ["exchange"]
)
FEED_EVENT_LAG = Gauge(
    "k2_feed_event_lag_seconds", "Receive time less event time of the newest event of the venue.", ["exchange"]
)
FEED_CLOCK_SKEW = Gauge(
    "k2_feed_clock_skew_seconds",
    "How far the venue's clock is ahead of ours, negative: behind; by the least delay within a minute.",
    ["exchange"],
)
FEED_CONNECTION_LIFETIME = Gauge(
    "k2_feed_connection_lifetime_seconds", "Age of the oldest present connection; 0 without one.", ["exchange"]
)
FEED_PONG_TIMEOUTS = Counter("k2_feed_pong_timeouts_total", "Pings that the venue did not answer.", ["exchange"])
FEED_DROPPED = Counter(
    "k2_feed_frames_dropped_total", "Frames that found no room while Kafka was away; their ids are gaps.", ["exchange"]
)
SEQUENCE_BREAKS = Counter(
    "k2_feed_sequence_breaks_total", "Jumps of the count that a venue keeps of a connection's messages.", ["exchange"]
)
FEED_STATE = Gauge(
    "k2_feed_state",
    "1 while something is wrong: silence, stale, lag, skew, sequence, refused, alias; else 0.",
    ["exchange", "state"],
)
SEQUENCE_GAPS = Counter(
    "k2_sequence_gaps_detected_total",
    "Holes in a symbol's trade ids; severity: warning below 10 missing, alert to 100, critical above.",
    ["exchange", "symbol", "severity"],
)
SEQUENCE_GAP_MESSAGES = Counter("k2_sequence_gap_messages_total", "Trade ids that are missing in gaps.", ["exchange"])
OUT_OF_ORDER = Counter("k2_out_of_order_messages_total", "Trade ids that came late and filled a gap.", ["exchange"])
DUPLICATES = Counter("k2_duplicate_messages_detected_total", "Trade ids that came again.", ["exchange"])

# --- a long-running process itself

PROCESS_MEMORY = Gauge("k2_process_memory_rss_bytes", "Resident memory of this process when it was last sampled.")
MEMORY_LEAK_SCORE = Gauge(
    "k2_memory_leak_score",
    "Growth of resident memory over the last hour in MB an hour, times R squared of the straight line through it.",
)
