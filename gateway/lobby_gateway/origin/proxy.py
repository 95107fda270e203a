"""The proxy to an origin and for its HTTP calls: of the Lobby (`spec.origin.proxy`), or of the environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lobby_gateway.origin.secrets import secret_variable
from lobby_gateway.resource.spec import OriginSpec
from lobby_gateway.websocket.proxy import Proxy, environment_proxy, proxy_of


def proxy_to(origin: OriginSpec, url: str, values: Mapping[str, str], environment: Mapping[str, str]) -> Proxy | None:
    """The proxy to use; None: none.

    Args:
        origin: the origin of a checked Lobby.
        url: where to connect to, with expressions evaluated.
        values: values of the Lobby's secrets, by variable.
        environment: as `os.environ`.

    Raises:
        UserError: the proxy's URL or credentials are unusable.
    """
    if origin.proxy is None:
        return environment_proxy(url, environment)
    ref = origin.proxy.credentials_secret_ref
    credentials = values[secret_variable(ref.name, ref.key)] if ref is not None else ""
    return proxy_of(origin.proxy.url, credentials, where="spec.origin.proxy")
