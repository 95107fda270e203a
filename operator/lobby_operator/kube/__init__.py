"""Kubernetes: the operator's process around the lobby host, with lobbies as pods."""

from importlib.util import find_spec

if find_spec("kubernetes") is None:
    # A wrong image in the chart's values, most likely: whoever reads its log needs no traceback.
    raise SystemExit(
        "the operator on Kubernetes is not installed here; accepted: the image of the operator, or the extra `operator`"
    )
