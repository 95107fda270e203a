"""The one connection of a lobby to its origin."""
