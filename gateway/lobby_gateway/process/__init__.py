"""What every process has: life cycle, logs, limits, arguments."""
