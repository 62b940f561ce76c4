"""A venue's WebSockets: opening, subscribing, renewing. Knows no Kafka."""
