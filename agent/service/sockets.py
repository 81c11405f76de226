"""The SocketCAN sockets of `inland capture`, bound before anything slow is imported.

From the bind on the kernel stamps and buffers every frame. Nothing that takes time is imported
before it; so the configuration is only looked at (`glance.py`), and what is wrong with it is left
to `agent.config`, which reads it properly afterwards and says so. `posix` and `_stat` are the parts
of `os` and `stat` that are written in C.
"""

from __future__ import annotations

import _stat
import posix

from agent.capture.early import Socket, bind_socket
from agent.service.glance import buses

TYPE_CHECKING = False  # see agent/errors.py
if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIG = "/etc/inland/agent.toml"  # as agent.config.DEFAULT_PATH, which costs too much to import
MAX_BYTES = 1 << 20  # as agent.config.MAX_BYTES
FLAGS = ("fd", "receive_own_messages", "ignore_rx_error_frames")


def bind_sockets(arguments: Sequence[str]) -> dict[str, Socket]:
    """Bind what can be bound; return the sockets by the name of their bus.

    Args:
        arguments: of `inland capture`.
    """
    sockets: dict[str, Socket] = {}
    for bus in _buses(_config(arguments)):
        name, channel = bus.get("name"), bus.get("channel")
        if bus.get("interface") != "socketcan" or name in sockets:
            continue
        if isinstance(name, str) and isinstance(channel, str):
            try:
                sockets[name] = bind_socket(channel, **{key: bool(bus.get(key)) for key in FLAGS})
            except OSError:
                continue  # it may appear later: the reader tries again, and says what is missing
    return sockets


def _config(arguments: Sequence[str]) -> str:
    path = CONFIG
    for number, argument in enumerate(arguments, 1):
        if argument == "--config":
            path = "".join(arguments[number : number + 1])
        elif argument.startswith("--config="):
            path = argument.removeprefix("--config=")
    return path


def _buses(path: str) -> list[dict[str, object]]:
    try:
        if not _stat.S_ISREG(posix.stat(path).st_mode):
            return []  # a pipe would be waited for
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs time
            text = file.read(MAX_BYTES + 1).decode()
        if len(text) > MAX_BYTES:
            return []
        seen = buses(text)
        if seen is None:
            import tomllib

            seen = tomllib.loads(text).get("bus")
    except (OSError, ValueError, RecursionError):  # no file, no UTF-8, no TOML
        return []
    return [bus for bus in seen if isinstance(bus, dict)] if isinstance(seen, list) else []
