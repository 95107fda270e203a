from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.sockets import run
from tests.unit.greeter.support import resource

from lobby_gateway.clients.admission import Admission, Permit, ProcessCapacity
from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.close_codes import NO_SEAT
from lobby_gateway.greeter.directory import Directory, DirectoryEntry
from lobby_gateway.greeter.redirect import Ticket
from lobby_gateway.greeter.router import PendingClient, ResponseForm, Router
from lobby_gateway.process.arguments import networks
from lobby_gateway.resource.spec import LimitsSpec
from lobby_gateway.websocket.listener import Listener, listen

UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
PAGE = "https://page.example"
Then = Callable[[PendingClient], object]
TICKET = Ticket(url="ws://h:1/prices?token=t", token="t", expires=17)


class Changes:
    def entry_changed(self, entry: DirectoryEntry) -> None:
        pass

    def entry_removed(self, name: str) -> None:
        pass


class Answer:
    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def accept(pending: PendingClient) -> socket.socket | None:
    return pending.accept(None)


class Queue:
    """Ends each client that is admitted, as `then` says."""

    def __init__(self, capacity: ProcessCapacity, then: Then = accept, connections: int = 0) -> None:
        limits = LimitsSpec(connections_per_address=connections, connects_per_second=0)
        self.admission = Admission(limits, capacity)
        self.admitted: list[PendingClient] = []
        self._then = then

    def enqueue(self, pending: PendingClient) -> None:
        self.admitted.append(pending)
        sock = self._then(pending)
        if isinstance(sock, socket.socket):  # of a proxied client
            sock.close()


async def asked(
    directory: list[dict[str, Any]] | None,
    headers: dict[str, str],
    *,
    path: str = "/prices",
    closed: bool = False,
    problem: str = "",
    proxies: str = "",
    capacity: ProcessCapacity | None = None,
    then: Then = accept,
    queue: Queue | None = None,
) -> tuple[Answer, PendingClient | None]:
    """The answer to a request, and the client it became; `then` says what is done with it."""
    capacity = capacity or ProcessCapacity()
    queue = queue or Queue(capacity, then)
    made = Directory(Changes())
    if directory is not None:
        made.update(list(directory))
    made.problem = problem
    router = Router(made, lambda _entry: queue, TrustedProxies(networks()(proxies)), capacity)
    router.closed = closed
    listener = Listener(listen("127.0.0.1", 0), router)
    listener.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        return Answer(data), queue.admitted[0] if queue.admitted else None
    finally:
        listener.close()


def test_a_client_reaches_the_lobby_at_its_path() -> None:
    answer, pending = run(asked([resource("heads"), resource("prices")], UPGRADE))
    assert answer.status == 101
    assert pending is not None
    assert pending.response.form is ResponseForm.PROXY
    assert pending.permit.address == "127.0.0.1"
    assert "sec-websocket-protocol" not in answer.headers
    assert "sec-websocket-extensions" not in answer.headers


@pytest.mark.parametrize(
    ("directory", "headers", "path", "closed", "status"),
    [
        ([resource("prices")], UPGRADE, "/price", False, 404),
        ([resource("prices")], UPGRADE, "/prices/", False, 404),
        ([], UPGRADE, "/prices", False, 404),
        (None, UPGRADE, "/prices", False, 503),
        ([resource("prices")], UPGRADE, "/prices", True, 503),
        ([resource("prices")], {"Host": "h"}, "/prices", False, 426),
        ([resource("prices")], {"Host": "h", "Accept": "application/json"}, "/prices", False, 426),
        ([resource("prices", routing={"mode": "Redirect"})], {"Host": "h"}, "/prices", False, 426),
        ([resource("prices")], {**UPGRADE, "Sec-WebSocket-Version": "8"}, "/prices", False, 426),
        ([resource("prices")], {**UPGRADE, "Sec-WebSocket-Key": "short"}, "/prices", False, 400),
        (
            [resource("prices", clients={"allowedOrigins": [PAGE]})],
            {**UPGRADE, "Origin": "null"},
            "/prices",
            False,
            403,
        ),
    ],
)
def test_requests_for_what_is_not_served_are_refused(
    directory: list[dict[str, Any]] | None, headers: dict[str, str], path: str, closed: bool, status: int
) -> None:
    answer, pending = run(asked(directory, headers, path=path, closed=closed))
    assert answer.status == status
    assert pending is None
    assert ("retry-after" in answer.headers) == (status == 503)


def test_while_changes_do_not_arrive_an_unknown_path_may_be_that_of_a_new_lobby() -> None:
    lost = "the API server does not respond"
    assert run(asked([resource("prices")], UPGRADE, path="/new", problem=lost))[0].status == 503
    assert run(asked([resource("prices")], UPGRADE, problem=lost))[0].status == 101


def test_an_allowed_page_is_accepted() -> None:
    directory = [resource("prices", clients={"allowedOrigins": [PAGE]})]
    answer, _ = run(asked(directory, {**UPGRADE, "Origin": PAGE}))
    assert answer.status == 101


@pytest.mark.parametrize("routing", [{"mode": "Proxy"}, {"mode": "Redirect"}])
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
@pytest.mark.parametrize(
    ("host", "page", "allowed"),
    [
        ("greeter.example", "https://evil.example", False),
        ("greeter.example", "null", False),
        ("greeter.example", "", False),
        ("greeter.example:8443", "https://greeter.example", True),
        ("GREETER.example", "https://greeter.EXAMPLE:9000", True),
        ("127.0.0.1:8080", "http://127.0.0.1:3000", True),
        ("[::1]:8080", "http://[::1]:3000", True),
        ("evil.example:8080", "http://evil.example:8080", False),  # its DNS now answers with our address
    ],
)
def test_by_default_only_pages_of_the_greeters_own_host_are_admitted(
    routing: dict[str, str], accept: str, host: str, page: str, allowed: bool
) -> None:
    directory = [resource("prices", routing=routing)]
    headers = {**UPGRADE, "Host": host, "Origin": page, "Accept": accept}
    answer, pending = run(asked(directory, headers, then=lambda pending: pending.refuse(NO_SEAT)))
    assert (pending is not None) is allowed
    assert answer.status == (503 if allowed else 403)


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200), (None, 200)]
)
def test_a_fetch_whose_answer_its_page_may_not_read_gets_no_ticket(site: str | None, status: int) -> None:
    # In mode `no-cors`, a browser names no page in Origin (Fetch Standard, "append a request Origin header").
    asking = {"Host": "h", "Accept": "application/json"} | ({"Sec-Fetch-Site": site} if site is not None else {})
    answer, _ = run(asked(REDIRECTING, asking, then=lambda pending: pending.redirect(TICKET)))
    assert answer.status == status


def test_the_refusal_of_a_page_names_the_field_that_admits_it() -> None:
    answer, _ = run(asked([resource("prices")], {**UPGRADE, "Origin": "https://evil.example"}))
    assert b"clients.allowedOrigins" in answer.body


@pytest.mark.parametrize(
    ("offered", "in_use", "told"),
    [
        ("b, a", "a", "a"),
        ("b, a", "", None),
        ("b, a", None, None),
        ("x, a", "a", "a"),
        ("x, b", "a", None),
        ("x", "a", None),
    ],
)
def test_a_client_is_told_the_subprotocol_that_the_origin_chose_if_it_offered_it(
    offered: str, in_use: str | None, told: str | None
) -> None:
    directory = [resource("prices", origin={"url": "ws://o.example/", "subprotocols": ["a", "b"]})]
    headers = {**UPGRADE, "Sec-WebSocket-Protocol": offered}
    answer, _ = run(asked(directory, headers, then=lambda pending: pending.accept(in_use)))
    assert answer.status == 101
    assert answer.headers.get("sec-websocket-protocol") == told


@pytest.mark.parametrize(("compression", "negotiated"), [("Shared", True), ("Off", False)])
def test_compression_is_negotiated_if_the_lobby_has_it(compression: str, negotiated: bool) -> None:
    directory = [resource("prices", clients={"compression": compression})]
    offer = {**UPGRADE, "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    answer, pending = run(asked(directory, offer))
    assert answer.headers.get("sec-websocket-extensions", "").startswith("permessage-deflate") is negotiated
    assert pending is not None
    assert (pending.response.extensions is not None) is negotiated


@pytest.mark.parametrize(("proxies", "address"), [("127.0.0.0/8", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1")])
def test_the_address_is_taken_from_trusted_proxies_only(proxies: str, address: str) -> None:
    forwarded = {**UPGRADE, "X-Forwarded-For": "6.6.6.6, 198.51.100.7"}
    _, pending = run(asked([resource("prices")], forwarded, proxies=proxies))
    assert pending is not None
    assert pending.permit.address == address


REDIRECTING = [resource("prices", routing={"mode": "Redirect"}, clients={"allowedOrigins": [PAGE]})]


def test_a_redirected_client_gets_a_307() -> None:
    answer, pending = run(asked(REDIRECTING, UPGRADE, then=lambda pending: pending.redirect(TICKET)))
    assert pending is not None
    assert pending.response.form is ResponseForm.LOCATION
    assert answer.status == 307
    assert answer.headers["location"] == "//h:1/prices?token=t"
    assert answer.headers["cache-control"] == "no-store"


def test_a_page_gets_a_ticket_that_it_may_read() -> None:
    asking = {"Host": "h", "Accept": "application/json", "Origin": PAGE}
    answer, pending = run(asked(REDIRECTING, asking, then=lambda pending: pending.redirect(TICKET)))
    assert pending is not None
    assert pending.response.form is ResponseForm.JSON
    assert answer.status == 200
    assert json.loads(answer.body) == {"url": TICKET.url, "token": "t", "expires": 17}
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["vary"] == "Origin"


def test_a_page_that_is_not_allowed_gets_no_ticket() -> None:
    asking = {"Host": "h", "Accept": "application/json", "Origin": "https://evil.example"}
    answer, pending = run(asked(REDIRECTING, asking))
    assert (answer.status, pending) == (403, None)
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_may_see_why_there_is_no_ticket() -> None:
    asking = {"Host": "h", "Accept": "application/json", "Origin": PAGE}
    answer, _ = run(asked(REDIRECTING, asking, then=lambda pending: pending.refuse(NO_SEAT)))
    assert answer.status == 503
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["retry-after"] == "5"


def test_a_page_may_see_that_its_address_has_too_many_connections() -> None:
    asking = {"Host": "h", "Accept": "application/json", "Origin": PAGE}
    capacity = ProcessCapacity()
    queue = Queue(capacity, connections=1)
    permit = queue.admission.admit("127.0.0.1", 0.0)
    answer, pending = run(asked(REDIRECTING, asking, capacity=capacity, queue=queue))
    assert (answer.status, pending) == (429, None)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["retry-after"] == "5"
    assert isinstance(permit, Permit)
    permit.release()


@pytest.mark.parametrize("end", [accept, lambda pending: pending.refuse(NO_SEAT)])
def test_a_client_is_counted_until_it_is_accepted_or_refused(end: Then) -> None:
    capacity = ProcessCapacity()
    run(asked([resource("prices")], UPGRADE, then=end, capacity=capacity))
    assert capacity.clients == (1 if end is accept else 0)  # then the connection owns the permit


def test_a_client_that_disconnects_while_waiting_is_reported() -> None:
    async def main() -> None:
        left = asyncio.Event()
        held = asyncio.Event()

        def hold(pending: PendingClient) -> None:
            pending.handshake.on_abandoned = left.set
            held.set()

        capacity = ProcessCapacity()
        queue = Queue(capacity, hold)
        made = Directory(Changes())
        made.update([resource("prices")])
        listener = Listener(listen("127.0.0.1", 0), Router(made, lambda _entry: queue, TrustedProxies(), capacity))
        listener.start()
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        lines = ["GET /prices HTTP/1.1", *(f"{name}: {value}" for name, value in UPGRADE.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        await held.wait()
        writer.close()
        await writer.wait_closed()
        await left.wait()
        listener.close()

    run(main())


def test_a_full_greeter_refuses_before_anything_else() -> None:
    capacity = ProcessCapacity(max_clients=1)
    Queue(capacity).admission.admit("192.0.2.1", 0.0)
    answer, pending = run(asked([resource("prices")], UPGRADE, path="/nowhere", capacity=capacity))
    assert (answer.status, pending) == (503, None)
    assert answer.headers["retry-after"] == "5"
    assert b"reached its limit of clients" in answer.body
