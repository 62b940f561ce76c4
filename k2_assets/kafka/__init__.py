"""Reading Kafka: topics, their bounds, messages in batches, and the schemas that they were written with."""
