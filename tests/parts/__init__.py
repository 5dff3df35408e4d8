"""Own parts, as a user writes them."""
