"""The lobby process: one origin connection, at most `seats` clients."""
