"""What exists both in Python and compiled, for tests that run over each."""

from __future__ import annotations

from typing import Final

import pytest

from lobby_gateway.clients.fan_out import send_all_compiled, send_all_in_python
from lobby_gateway.origin.literals import contains_any_compiled, contains_any_in_python

needs_send_all = pytest.mark.skipif(
    send_all_compiled is None, reason="the send loop is not compiled (needs a C compiler)"
)
needs_contains_any = pytest.mark.skipif(
    contains_any_compiled is None, reason="the search for literals is not compiled (needs a C compiler)"
)

LOOPS: Final = (
    pytest.param(send_all_in_python, id="python"),
    pytest.param(send_all_compiled, id="compiled", marks=needs_send_all),
)
"""Those that send to clients."""

SEARCHES: Final = (
    pytest.param(contains_any_in_python, id="python"),
    pytest.param(contains_any_compiled, id="compiled", marks=needs_contains_any),
)
"""Those that look for literals."""
