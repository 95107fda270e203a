"""Sockets, tasks and timers around the core. Decides nothing."""
