"""The planner: a pure function from the desired and the observed state to actions, each with a reason."""
