"""The WebSocket protocol (RFC 6455): frames, handshakes and sockets, for servers and clients."""
