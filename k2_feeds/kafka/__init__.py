"""The way into Kafka: topics and schemas, the producer, what it has acknowledged."""
