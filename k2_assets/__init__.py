"""Dagster around pure transforms: drains Kafka into bronze and silver, refines gold."""
