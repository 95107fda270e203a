"""Client connections: who may enter, what they are sent, and what waits for them."""
