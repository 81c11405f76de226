"""Opening a SocketCAN socket within milliseconds after exec: built-in modules, nothing else.

The service binds its sockets here first and imports the heavy modules afterwards; from the moment
of the bind the kernel stamps and buffers every frame, so nothing is lost meanwhile.

Rules:
- The receive buffer is raised before the bind: first SO_RCVBUFFORCE (needs CAP_NET_ADMIN), then
  SO_RCVBUF, which the kernel cuts to net.core.rmem_max. `granted_bytes` tells what came of it.
- Listen only: the socket is for reading; nothing in this package sends on it.
- Kernel stamps in ns (SO_TIMESTAMPNS), drops counted (SO_RXQ_OVFL), error frames on.
- `_socket` is the part of `socket` that is written in C; the rest of it, with the modules that it
  imports, is a third of the way from exec to the bind. What says an error is imported for one.

Source: linux/can/raw.h, linux/can/error.h, Documentation/networking/can.rst, asm-generic/socket.h.
"""

from __future__ import annotations

import _socket
import time

TYPE_CHECKING = False  # typing.TYPE_CHECKING, but typing takes as long as all of this
if TYPE_CHECKING:
    from typing import Final

    from agent.errors import BusError

SO_RCVBUFFORCE: Final = 33
SO_TIMESTAMPNS: Final = 35
SO_RXQ_OVFL: Final = 40
CAN_RAW_ERR_FILTER: Final = 2
ALL_ERROR_CLASSES: Final = 0x1FFFFFFF
SETTLE_MS: Final = 4
BUFFER_BYTES: Final = 8 << 20  # 10,000 frames and more: half a second of a full 1 Mbit/s bus

Socket = _socket.socket  # socket.socket is one too

HOW_TO_VCAN: Final = "create one: ip link add dev vcan0 type vcan && ip link set up vcan0"


def raise_buffer(sock: Socket, wanted_bytes: int = BUFFER_BYTES) -> int:
    """Raise the receive buffer as far as the kernel lets us and return what it granted, bytes.

    The kernel counts its own bookkeeping too and so reports twice what one asks for.
    """
    try:
        sock.setsockopt(_socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted_bytes)
    except PermissionError:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, wanted_bytes)
    return granted_bytes(sock)


def granted_bytes(sock: Socket) -> int:
    """Return the receive buffer of a socket as the kernel reports it, bytes."""
    return sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF)


def prepare(sock: Socket) -> None:
    """Raise the buffer and ask for kernel stamps and drop counts; any datagram socket will do."""
    raise_buffer(sock)
    sock.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(_socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    sock.setblocking(False)


def open_socket(
    channel: str,
    fd: bool = False,
    *,
    receive_own_messages: bool = False,
    ignore_rx_error_frames: bool = False,
) -> Socket:
    """Open, prepare and bind a raw CAN socket; see `bind_socket`.

    Raises:
        BusError: this kernel has no CAN, the interface is missing, or we may not open it.
    """
    try:
        return bind_socket(
            channel, fd, receive_own_messages=receive_own_messages,
            ignore_rx_error_frames=ignore_rx_error_frames,
        )  # fmt: skip
    except OSError as error:
        raise _refused(channel, error) from error


def bind_socket(
    channel: str,
    fd: bool = False,
    *,
    receive_own_messages: bool = False,
    ignore_rx_error_frames: bool = False,
) -> Socket:
    """Open, prepare and bind a raw CAN socket.

    Args:
        channel: name of the interface, e.g. "can0".
        fd: receive CAN FD frames too.
        receive_own_messages: python-can's key; we never send, so it hardly matters.
        ignore_rx_error_frames: do not receive error frames.

    Raises:
        OSError: what the kernel says.
    """
    sock = Socket(_socket.AF_CAN, _socket.SOCK_RAW, _socket.CAN_RAW)
    try:
        prepare(sock)
        # The kernel starts to stamp a moment after it was asked to (net_enable_timestamp defers
        # it); what arrived before would carry the time of reading, a whole start later.
        time.sleep(SETTLE_MS / 1000)
        if fd:
            sock.setsockopt(_socket.SOL_CAN_RAW, _socket.CAN_RAW_FD_FRAMES, 1)
        sock.setsockopt(
            _socket.SOL_CAN_RAW, _socket.CAN_RAW_RECV_OWN_MSGS, int(receive_own_messages)
        )
        mask = 0 if ignore_rx_error_frames else ALL_ERROR_CLASSES
        sock.setsockopt(_socket.SOL_CAN_RAW, CAN_RAW_ERR_FILTER, mask)
        sock.bind((channel,))
    except OSError:
        sock.close()
        raise
    return sock


def _refused(channel: str, error: OSError) -> BusError:
    import errno  # noqa: PLC0415 - see the module

    from agent.errors import BusError  # noqa: PLC0415

    text = (error.strerror or str(error)).lower()
    if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
        return BusError(f"this kernel has no SocketCAN ({text})", where=channel)
    if error.errno == errno.ENODEV:
        return BusError("no such CAN interface", where=channel, todo=HOW_TO_VCAN)
    return BusError(f"cannot open the CAN interface: {text}", where=channel)
