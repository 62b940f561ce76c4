"""A venue server of our own, and the player of recordings; shares no code with k2_core.venues."""
