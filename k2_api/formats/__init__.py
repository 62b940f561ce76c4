"""Arrow rows to the bytes of an answer. Pure; nothing here knows HTTP."""
