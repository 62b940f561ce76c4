"""The long-running run that moves Kafka into bronze, rejected and silver."""
