"""The two halves as their units start them, `inland capture [--config FILE]`: without click.

It would stay in the memory of a process that never looks at its command line again, 1.5 MiB of it.
Whatever is not exactly that command line, and a file that is none, is left to click, which knows
what to say.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.service.sockets import CONFIG


def plain(
    arguments: Sequence[str], sockets: dict[str, socket.socket] | None
) -> Callable[[], None] | None:
    """Return what runs a half of the agent; None: the command line is one for click.

    Args:
        arguments: of `inland`.
        sockets: of `capture`, bound already, by the name of their bus.
    """
    match arguments:
        case ["capture" | "uplink" as half]:
            path = Path(CONFIG)
        case ["capture" | "uplink" as half, "--config", name]:
            path = Path(name)
        case _:
            return None
    return (lambda: _run(half, path, sockets)) if path.is_file() else None


def _run(half: str, path: Path, sockets: dict[str, socket.socket] | None) -> None:
    from agent.cli.logs import log_to_stderr
    from agent.config import load_config

    log_to_stderr(verbose=False)
    if half == "capture":
        from agent.service.capture import run_capture

        run_capture(load_config(path), sockets)
    else:
        from agent.service.uplink import run_uplink

        run_uplink(load_config(path))
