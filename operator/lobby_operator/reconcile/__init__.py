"""The reconcile loop of a Lobby: poll, plan, act."""
