"""Both loops that send to clients, for tests that run over each."""

from __future__ import annotations

from typing import Final

import pytest

from lobby_gateway.clients.fan_out import send_all_compiled, send_all_in_python

LOOPS: Final = (
    pytest.param(send_all_in_python, id="python"),
    pytest.param(
        send_all_compiled,
        id="compiled",
        marks=pytest.mark.skipif(
            send_all_compiled is None, reason="the send loop is not compiled (needs a C compiler)"
        ),
    ),
)
