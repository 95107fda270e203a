"""Trunks: the stream from a lobby to a greeter, with a position for every message."""
