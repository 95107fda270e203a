"""Local mode: lobby host, greeters and lobbies on one machine, without a cluster."""
