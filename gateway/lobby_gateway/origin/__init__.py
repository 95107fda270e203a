"""A lobby's one connection to its origin."""
