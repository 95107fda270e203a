"""`python -m lobby_gateway.lobby`: the lobby process."""

import sys

from lobby_gateway.process import unused_modules

unused_modules.leave_out()  # before anything imports them

from lobby_gateway.lobby.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
