from __future__ import annotations

import pytest

from lobby_gateway.process.compiled import if_compiled


def missing() -> str:
    raise ImportError


@pytest.mark.parametrize(("value", "found"), [("1", None), ("", "compiled"), (None, "compiled")])
def test_a_compiled_loop_is_used_unless_the_environment_forbids_it(
    value: str | None, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOBBY_PURE_PYTHON", raising=False)
    if value is not None:
        monkeypatch.setenv("LOBBY_PURE_PYTHON", value)
    assert if_compiled(lambda: "compiled") == found
    assert if_compiled(missing) is None
