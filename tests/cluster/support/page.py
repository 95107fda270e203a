"""A browser on the cluster's network: `python -m tests.cluster.support.page URL FOLDER`.

Its page is of another site than the greeter. It asks for a ticket and connects to the lobby; the lines that it prints are
those of `tests/support/third_party.py`. It ends by SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.third_party import BROWSER, listening


async def main(url: str, folder: Path) -> None:
    """Shows the page until cancelled."""
    async with listening(BROWSER, url, folder, compress=False, redirect=True) as client:
        told = 0
        while True:
            lines = client.output
            for line in lines[told:]:
                print(json.dumps(line), flush=True)  # noqa: T201
            told = len(lines)
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
