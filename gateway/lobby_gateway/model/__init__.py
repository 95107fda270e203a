"""What travels between processes, as frozen dataclasses: Lobby, position, seats, token."""
