"""Leaves out modules that libraries import and that lobbies and greeters don't use: 3 MiB of a process of 34.

`prometheus_client` defines HTTP servers and a client for its push gateway, and imports Python's for that, used or not.
`websockets` imports `importlib.metadata` for development versions of its own. A module that is left out is loaded as soon as
something of it is used. While `prometheus_client` is imported, empty classes stand for those that its servers derive from, so
its servers don't work in these processes, which have `http/admin.py`.
"""

from __future__ import annotations

import importlib
import sys
from threading import RLock
from types import ModuleType
from typing import Any, Final

HARDLY_USED: Final = ("calendar", "html", "importlib.metadata", "mimetypes", "shutil")
"""Imported whole (`import html`) by what we need: a name that is imported from one (`from html import escape`) loads it."""

SERVERS: Final = {
    "http.server": ("BaseHTTPRequestHandler",),
    "socketserver": ("ThreadingMixIn",),
    "urllib.request": ("BaseHandler", "HTTPHandler", "HTTPRedirectHandler", "HTTPSHandler", "Request", "build_opener"),
    "wsgiref.simple_server": ("WSGIRequestHandler", "WSGIServer", "make_server"),
}
"""What `prometheus_client` imports of servers and clients. Another name loads the module: other versions work, too."""

_LOADING = RLock()


class _LateModule(ModuleType):
    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the module has
        if name == "__path__" and self.__name__ in SERVERS:
            raise AttributeError(name)  # asked for by `from ... import ...`; they are no packages
        with _LOADING:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            module = importlib.import_module(self.__name__)
        return getattr(module, name)


def late_module(name: str, bases: tuple[str, ...] = ()) -> ModuleType:
    """What stands for a module until something of it is used, except for these names: they are empty classes in it."""
    made = _LateModule(name)
    for each in bases:
        setattr(made, each, type(each, (), {"__doc__": f"Stands for that of `{name}`."}))
    return made


def leave_out() -> None:
    """Leaves them out, as far as they are not loaded. To be called before anything else is imported."""
    for name in HARDLY_USED:
        _put(late_module(name))
    servers = [late_module(name, names) for name, names in SERVERS.items()]
    for each in servers:
        _put(each)
    importlib.import_module("prometheus_client")
    for each in servers:
        if sys.modules.get(each.__name__) is each:
            del sys.modules[each.__name__]


def _put(late: ModuleType) -> None:
    parent, _, child = late.__name__.rpartition(".")
    if late.__name__ not in sys.modules:
        sys.modules[late.__name__] = late
        if parent:
            setattr(importlib.import_module(parent), child, late)
