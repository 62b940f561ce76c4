"""How a feed is: what is wrong at the moment, and what is shown of it."""
