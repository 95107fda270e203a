"""A handshake that waits for a seat: what has been found out about it, and the ways in which it can end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import StrEnum

from lobby_gateway.close_codes import Refusal
from lobby_gateway.greeter.redirect import Ticket, cors_headers, redirect_headers, ticket_response
from lobby_gateway.websocket.listener import Handshake


class Form(StrEnum):
    """What a newcomer gets once there is a seat; the value of the metric's label for the redirected ones."""

    PROXY = "proxy"  # 101
    LOCATION = "location"  # 307
    JSON = "json"  # 200 with a ticket


class PendingClient:
    """A handshake that was found to be right.

    Attributes:
        handshake: the connection.
        form: what it gets.
        address: of the client, as far as proxies are trusted.
        subprotocol: chosen for it.
        extensions: the answer to its extensions; with one, its messages are deflated.
        on_left: is called with its address, once, when it ends as anything but a client.
    """

    __slots__ = ("address", "extensions", "form", "handshake", "on_left", "subprotocol")

    def __init__(
        self,
        handshake: Handshake,
        form: Form,
        address: str,
        *,
        subprotocol: str | None = None,
        extensions: str | None = None,
    ) -> None:
        self.handshake = handshake
        self.form = form
        self.address = address
        self.subprotocol = subprotocol
        self.extensions = extensions
        self.on_left: Callable[[str], None] | None = None

    def accept(self) -> socket.socket | None:
        """Answers 101; None if the client is gone."""
        sock = self.handshake.accept(subprotocol=self.subprotocol, extensions=self.extensions)
        if sock is None:
            self.left()
        return sock

    def redirect(self, ticket: Ticket) -> None:
        """Answers with a ticket in the form that was asked for."""
        if self.form is Form.JSON:
            headers, body = ticket_response(ticket, self.handshake.request.headers.get("origin"))
            self.handshake.respond(200, headers, body)
        else:
            self.handshake.respond(307, redirect_headers(ticket), b"")
        self.left()

    def refuse(self, refusal: Refusal, *, retry_after: int | None = None) -> None:
        """Turns it away."""
        # A page may see why its `fetch` failed.
        headers = cors_headers(self.handshake.request.headers.get("origin")) if self.form is Form.JSON else ()
        self.handshake.refuse(refusal, retry_after=retry_after, headers=headers)
        self.left()

    def left(self) -> None:
        """It is here no more; to be called when it left by itself."""
        on_left, self.on_left = self.on_left, None
        if on_left is not None:
            on_left(self.address)
