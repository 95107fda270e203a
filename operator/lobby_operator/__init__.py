"""Control plane of Lobby Gateway: the planner, the lobby host around it, and local mode."""
