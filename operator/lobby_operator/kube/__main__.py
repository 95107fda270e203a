"""`python -m lobby_operator.kube`: the operator process."""

import sys

from lobby_gateway.process import early_end

early_end.end_early()

from lobby_operator.kube.command import main  # noqa: E402  # takes a second

if __name__ == "__main__":
    sys.exit(main())
