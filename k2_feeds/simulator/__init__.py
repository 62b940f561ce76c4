"""K2's own venue: a server that speaks Binance's WebSocket protocol over a random market or a recording.

It shares no code with ``k2_core.venues``, so that one mistake cannot hide in both.
"""
