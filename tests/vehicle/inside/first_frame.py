"""From exec to the first frame that a socket of the agent's holds, in ms.

first_frame.py PACKAGES CONFIG EXEC_NS [eager]: bind as `inland capture` does in the boot service,
whose interpreter looks for no packages at first (-S) and is told where ours are; or, eager, after
everything slow is imported. Something must be sending on the bus.
"""

import sys

sys.path.append(sys.argv[1])
if sys.argv[4:] == ["eager"]:
    import can
    import numpy
    import sqlite_utils
    import zstandard

    import agent.vault.vault
    from agent.capture.socketcan import SocketcanBus

    _ = (can, numpy, sqlite_utils, zstandard, agent.vault.vault, SocketcanBus)

from agent.service.sockets import bind_sockets

((_, sock),) = bind_sockets(["--config", sys.argv[2]]).items()
sock.settimeout(5)
_, control, _, _ = sock.recvmsg(16, 64)
stamp = next(item for level, kind, item in control if (level, kind) == (1, 35))
seconds, nanos = (int.from_bytes(stamp[at : at + 8], "little") for at in (0, 8))
print((seconds * 10**9 + nanos - int(sys.argv[3])) / 1e6)
