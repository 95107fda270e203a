from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.specs import origin_spec

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource import schema
from lobby_gateway.resource.spec import (
    ClientMessages,
    CloseCodesSpec,
    Compression,
    ConnectMode,
    Decode,
    Early,
    EndSpec,
    ExpectSpec,
    LimitsSpec,
    Lobby,
    NamedValue,
    OnConnectStep,
    Overflow,
    Placement,
    QueueSpec,
    RoutingMode,
    RuleSpec,
    SecretKeyRef,
    SecretRef,
    SecretVariable,
    TimedSpec,
    TlsSpec,
    ValueFrom,
    WaitSpec,
    lobby_from_resource,
)

VALID = Path(__file__).parents[2] / "data" / "valid"


def lobby(name: str) -> Lobby:
    return lobby_from_resource(schema.load_file(VALID / f"{name}.yaml"))


def pause(wait: WaitSpec) -> OnConnectStep:
    return OnConnectStep(send=None, send_bytes=None, expect=None, wait=wait, http=None)


def test_every_field_arrives() -> None:
    made = lobby("everything")
    spec, origin, clients = made.spec, made.spec.origin, made.spec.clients
    assert (made.name, made.namespace, made.uid, made.generation) == ("prices", "markets", "", 0)
    assert (spec.path, spec.replicas, spec.max_replicas, spec.spare_seats) == ("/v1/prices", 2, 10, 10)
    assert (spec.placement, spec.empty_seconds, spec.drain_seconds, spec.wait_seconds) == (Placement.LATEST, 30, 60, 5)
    assert (spec.compaction.enabled, spec.compaction.stabilization_seconds) == (False, 10)
    assert (spec.routing.mode, spec.routing.redirect.url_template) == (
        RoutingMode.REDIRECT,
        "wss://lobbies.example.com:{port}/",
    )
    assert origin.url == "wss://feed.example.com:8443/stream?channel=all"
    key = SecretKeyRef(name="feed", key="api-key")
    assert origin.query == (
        NamedValue(name="format", value="json", value_from=None),
        NamedValue(name="key", value=None, value_from=ValueFrom(secret_key_ref=key)),
    )
    assert [header.name for header in origin.headers] == ["X-Client", "Authorization"]
    assert origin.subprotocols == ("v2.json", "v1.json")
    assert origin.tls == TlsSpec(
        server_name="feed.internal",
        ca_secret_ref=SecretKeyRef(name="feed-ca", key="root.pem"),
        client_cert_secret_ref=SecretRef(name="feed-client"),
        insecure_skip_verify=False,
    )
    assert origin.secrets == (SecretVariable(name="API_KEY", secret_key_ref=key),)
    assert origin.on_connect[1:] == (
        OnConnectStep(
            send=None,
            send_bytes=None,
            expect=ExpectSpec(
                json={"/status": "authenticated", "/error": None, "/limits/0": {"max": 5, "tags": ["a", None]}},
                contains="status",
                when='msg.status != "pending"',
                save={"session": "msg.session"},
                keep="session",
                early=Early.FORWARD,
                timeout_seconds=10,
            ),
            wait=None,
            http=None,
        ),
        OnConnectStep(
            send=None,
            send_bytes=None,
            expect=ExpectSpec(
                json={}, contains=None, when=None, save=None, keep=None, early=Early.DROP, timeout_seconds=5
            ),
            wait=None,
            http=None,
        ),
        pause(WaitSpec(seconds=1, seconds_from=None, early=Early.DROP)),
        pause(WaitSpec(seconds=None, seconds_from="double(saved.session) / 1000.0", early=Early.FORWARD)),
    )
    pong = RuleSpec(
        contains='"ping"',
        when="has(msg.ping)",
        send='{"pong":$(msg.ping)}',
        send_bytes=None,
        save={"beat": "msg.ping"},
        keep=None,
        forward=False,
        renew=False,
        end=None,
    )
    end = EndSpec(reason="msg.error", refused=True)
    assert origin.on_message == (
        pong,
        replace(pong, contains='"error"', when=None, send=None, save=None, forward=True, end=end),
        replace(pong, contains="serverShutdown", when=None, send=None, save=None, forward=True, renew=True),
        replace(pong, contains='"state"', when=None, send=None, save=None, keep="state", forward=True),
    )
    assert (origin.decode, origin.split) == (Decode.GZIP, "\n")
    assert origin.close_codes == CloseCodesSpec(refused=(4401, 4403))
    assert origin.every == (
        TimedSpec(seconds=25, seconds_from=None, send="ping", send_bytes=None),
        TimedSpec(seconds=None, seconds_from="double(saved.beat) / 1000.0", send=None, send_bytes='b"\\xc0\\x00"'),
    )
    assert (origin.keepalive.ping_seconds, origin.keepalive.timeout_seconds, origin.stale_seconds) == (0, 30, 60)
    assert (origin.reconnect.min_milliseconds, origin.reconnect.max_milliseconds) == (100, 60000)
    assert (origin.connect, origin.max_message_bytes) == (ConnectMode.ALWAYS, 2097152)
    assert clients.seats == 100
    assert clients.queue == QueueSpec(messages=64, milliseconds=1500, bytes=1048576, overflow=Overflow.DISCONNECT)
    assert (clients.messages, clients.replay, clients.ping_seconds) == (ClientMessages.FORWARD, 5, 0)
    assert (clients.compression, clients.max_message_bytes) == (Compression.SHARED, 1024)
    assert clients.allowed_origins == ("https://example.com", "http://localhost:3000")
    assert clients.limits == LimitsSpec(connections_per_address=20, connects_per_second=5)
    assert spec.template == schema.load_file(VALID / "everything.yaml")["spec"]["template"]


def test_without_a_path_it_is_the_name() -> None:
    assert lobby("minimal").spec.path == "/prices"


def test_without_a_namespace_its_key_is_its_name() -> None:
    assert lobby("minimal").key == "prices"


def test_what_kubernetes_adds_is_read() -> None:
    made = lobby("read_back")
    assert (made.namespace, made.generation) == ("default", 3)
    assert made.key == f"default/{made.name}"
    assert made.uid == "0c2f1f5e-7d0e-4a37-8f2c-3c5c1b9f6b1e"


def test_a_repr_holds_no_value_that_may_be_secret() -> None:
    text = repr(lobby("everything"))
    assert "lobby gateway" not in text
    assert '"op":"auth"' not in text
    assert "X-Client" in text
    assert "SSL_CERT_FILE" not in text


def test_it_can_not_be_changed() -> None:
    made = lobby("minimal")
    with pytest.raises(AttributeError):
        made.spec.replicas = 3  # type: ignore[misc]


@pytest.mark.parametrize("resource", [{}, {"metadata": {"name": "a"}}, {"spec": {}}, {"metadata": None, "spec": {}}])
def test_what_is_no_resource_is_refused(resource: dict[str, Any]) -> None:
    with pytest.raises(InvalidLobbyError, match=r"^Lobby: metadata\.name and spec are required$"):
        lobby_from_resource(resource)


def test_a_resource_that_was_not_defaulted_is_refused() -> None:
    resource = {"metadata": {"name": "a"}, "spec": {"origin": {"url": "ws://a"}}}
    with pytest.raises(InvalidLobbyError, match=r"^Lobby: spec\.origin\.headers: missing"):
        lobby_from_resource(resource)


def test_the_id_of_a_stream_depends_on_what_is_asked_of_the_origin_alone() -> None:
    asked = origin_spec(onConnect=[{"send": "hello"}])
    assert asked.stream_id == origin_spec(onConnect=[{"send": "hello"}], staleSeconds=5).stream_id
    assert asked.stream_id != origin_spec(onConnect=[{"send": "bye"}]).stream_id


def test_the_id_of_a_stream_is_that_of_versions_without_later_fields() -> None:
    """A field that is added, and not set, must not part the lobbies of two versions during an upgrade."""
    assert origin_spec(onConnect=[{"send": "hello"}]).stream_id == "10736446f76962e0"
