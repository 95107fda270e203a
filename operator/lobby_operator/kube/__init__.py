"""Kubernetes: the operator's process around the lobby host, with lobbies as pods."""
