"""`lobby up` on a terminal: a live table; Ctrl-C leaves neither processes nor a broken terminal behind."""

from __future__ import annotations

from tests.support.processes import LOBBY
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.terminal import CTRL_C, terminal
from tests.support.waiting import until

UP = (LOBBY, "up", "--demo", "--port", "0", "--admin-port", "0")
SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


def test_terminal_shows_where_to_connect_and_how_full_each_lobby_is() -> None:
    async def main() -> None:
        async with terminal(*UP, "--seats", "20") as screen:
            url = await screen.shows(r"(ws://127\.0\.0\.1:\d+/demo)")
            async with Swarm(url[1]) as swarm:
                await swarm.connect_all(30)
                await screen.shows(r"demo-1\b[^\n]*\b20\s*/\s*20\b")
                # Waiting clients got seats in whichever other lobby was ready first.
                await screen.shows(r"demo-[2-9]\b[^\n]*\b10\s*/\s*20\b")
                await screen.shows(r"demo-1\b[^\n]*Connected")
                assert len(swarm.open) == 30
                screen.press(CTRL_C)
                assert await screen.exited() == 0
                await until(lambda: not swarm.open, describe=swarm.summary)
                assert set(swarm.closes) <= {1001, 1012}, swarm.summary()
            await until(lambda: not screen.left(), describe=lambda: str(screen.left()))
            assert "Traceback" not in screen.text
            assert screen.raw.rfind(SHOW_CURSOR) >= screen.raw.rfind(HIDE_CURSOR)

    run(main(), deadline=60)


def test_second_ctrl_c_kills_everything() -> None:
    async def main() -> None:
        async with terminal(*UP) as screen:
            url = await screen.shows(r"(ws://127\.0\.0\.1:\d+/demo)")
            async with Swarm(url[1]) as swarm:
                await swarm.connect_all(5)
                screen.press(CTRL_C)
                screen.press(CTRL_C)
                await screen.exited()
            await until(lambda: not screen.left(), describe=lambda: str(screen.left()))
            assert "Traceback" not in screen.text

    run(main(), deadline=60)
