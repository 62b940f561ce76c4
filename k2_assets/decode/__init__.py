"""From messages to rows: envelopes, the venue's parsers, the rules of rows. Pure: opens nothing, writes nothing."""
