"""Alerts: what is bad now, whom to send a message of it, and what was sent."""
