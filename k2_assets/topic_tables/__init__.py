"""The tables that are filled from one Kafka topic, together: a commit of each, in order."""
