"""What keeps the drain alive."""
