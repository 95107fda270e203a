from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from lobby_gateway.process.unused_modules import SERVERS, late_module

LEFT_OUT = (
    "_bz2",
    "_lzma",
    "html.entities",
    "http.client",
    "socketserver",
    "unicodedata",
    "wsgiref.handlers",
    "zipfile",
)


def run(code: str) -> str:
    """Runs code in a process that has loaded nothing yet; returns its standard output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("process", ["lobby", "greeter"])
def test_a_process_that_has_read_its_options_has_not_loaded_them(process: str) -> None:
    code = f"""
import sys
import lobby_gateway.{process}.__main__
from lobby_gateway.{process}.command import parser
parser()
print([name for name in {LEFT_OUT!r} if name in sys.modules])
"""
    assert run(code) == "[]"


def test_what_is_left_out_works_for_those_who_use_it() -> None:
    code = """
import lobby_gateway.lobby.__main__
import calendar, html, importlib.metadata, mimetypes, shutil
from importlib.metadata import version
from importlib.metadata import _meta
import http.server, socketserver, urllib.request, wsgiref.simple_server
assert html.escape("<") == "&lt;"
assert version("websockets") == importlib.metadata.version("websockets")
assert calendar.timegm((1970, 1, 2, 0, 0, 0)) == 86400
assert mimetypes.guess_type("a.html")[0] == "text/html"
assert shutil.which("a name that no program has") is None
assert issubclass(http.server.BaseHTTPRequestHandler, socketserver.BaseRequestHandler)
assert issubclass(wsgiref.simple_server.WSGIServer, http.server.HTTPServer)
assert urllib.request.Request("http://127.0.0.1/").host == "127.0.0.1"
print("as always")
"""
    assert run(code) == "as always"


def test_metrics_are_written_by_prometheus_client() -> None:
    code = """
import lobby_gateway.lobby.__main__
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder
registry = CollectorRegistry()
Counter("messages", "Messages.", registry=registry).inc(2)
encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
assert b"messages_total 2.0" in encode(registry)
print("written")
"""
    assert run(code) == "written"


@pytest.fixture
def module_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with `Base` and `other`, of which a late one stands in `sys.modules`."""
    name = "a_module_of_a_test"
    (tmp_path / f"{name}.py").write_text("class Base:\n    real = True\n\nother = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, name, late_module(name, ("Base",)))
    return name


def test_a_base_class_can_be_derived_from_without_the_module(module_of_a_file: str) -> None:
    late = importlib.import_module(module_of_a_file)
    derived = type("Derived", (late.Base,), {})
    assert not hasattr(derived, "real")
    assert sys.modules[module_of_a_file] is late


def test_whatever_else_is_used_of_a_module_loads_it(module_of_a_file: str) -> None:
    late = importlib.import_module(module_of_a_file)
    assert late.other == 1
    assert sys.modules[module_of_a_file] is not late
    assert sys.modules[module_of_a_file].Base.real
    with pytest.raises(AttributeError):
        _ = late.neither


def test_the_servers_are_what_prometheus_client_imports() -> None:
    code = f"""
import sys
from lobby_gateway.process.unused_modules import leave_out
leave_out()
print(sorted(set({tuple(SERVERS)!r}) & set(sys.modules)))
"""
    assert run(code) == "[]"  # another name would have loaded one
