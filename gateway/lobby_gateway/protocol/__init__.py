"""Bytes to events and back: frames, handshakes, compression, trunk. No I/O."""
