"""The planner under a crowd that nobody has: discrete events, no processes, and the same result for the same seed."""
