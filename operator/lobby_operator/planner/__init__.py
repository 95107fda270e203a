"""The planner: a pure function from what is wanted and observed to actions, each with a reason."""
