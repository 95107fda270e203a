"""Data plane of Lobby Gateway: lobbies, greeters, and the trunk between them."""

__version__ = "0.1.0"
