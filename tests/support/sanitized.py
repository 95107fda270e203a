"""A pytest plugin that replaces compiled modules with builds that check themselves; see tests/integration/test_sanitizers.py.

SANITIZED_MODULES in the environment has the name and the file of each, as JSON. They are loaded before anything imports them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys

for _name, _file in json.loads(os.environ["SANITIZED_MODULES"]).items():
    _spec = importlib.util.spec_from_file_location(_name, _file)
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])
