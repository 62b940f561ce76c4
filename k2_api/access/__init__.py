"""Who may ask for what, and how often: keys, entitlements, rates. Nothing here knows HTTP."""
