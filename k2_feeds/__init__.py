"""Sockets to Kafka: venue feeds and the venue simulator; knows no lake."""
