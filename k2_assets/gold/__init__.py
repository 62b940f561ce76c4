"""Every trade once, and candles."""
