"""Files of own parts, as users write them."""
