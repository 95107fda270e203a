"""`python -m lobby_gateway.lobby`: the lobby process."""

import sys

from lobby_gateway.process import early_end, unused_modules

early_end.end_early()
unused_modules.leave_out()

from lobby_gateway.lobby.command import main  # noqa: E402  # after both

if __name__ == "__main__":
    sys.exit(main())
