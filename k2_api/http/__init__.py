"""What every route shares of HTTP: parameters, cursors, envelopes, errors."""
