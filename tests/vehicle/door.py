"""The tests' way into a guest: JSON objects, one a line; qemu-guest-agent is at the other end.

It needs no network in the guest and no login. Source: qemu-ga(8), QEMU Guest Agent Protocol.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

LINE_BYTES = 4000  # a request: the guest's terminal forgets what goes beyond 4096 bytes
PIECE_IN = 2800  # bytes of a file a request, into the guest: base64 makes 3,736 of them
PIECE_OUT = 1 << 18  # and out of it


class DoorError(RuntimeError):
    """The guest said no, or nothing at all."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in the guest ended."""

    code: int
    out: str
    err: str


class Door:
    """One end of the line; owns the socket."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._buffer = line, b""
        self._pause = threading.Event()  # never set: waiting for it takes its time

    def knock(self) -> bool:
        """Whether somebody answers now; before the agent is up, what is sent may be lost."""
        number = time.monotonic_ns() % 1_000_000_000
        try:
            self._send("guest-sync", {"id": number})
            while self._receive(1) != {"return": number}:
                pass
        except (TimeoutError, OSError):
            return False
        return True

    def ask(self, command: str, *, timeout: float = 60, **arguments: Any) -> Any:
        """Return what the agent answers."""
        self._send(command, {name.replace("_", "-"): value for name, value in arguments.items()})
        while True:
            try:
                answer = self._receive(timeout)
            except (TimeoutError, OSError) as error:
                raise DoorError(f"{command}: the guest does not answer ({error!r})") from error
            if "error" in answer:
                raise DoorError(f"{command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]

    def tell(self, command: str, **arguments: Any) -> None:
        """Send what has no answer."""
        self._send(command, arguments)

    def run(self, command: str, *, timeout: float) -> Result:
        """Run a shell command to its end."""
        started = self.ask("guest-exec", path="/bin/bash", arg=["-c", command], capture_output=True)
        deadline, wait_s = time.monotonic() + timeout, 0.005
        while not (state := self.ask("guest-exec-status", pid=started["pid"]))["exited"]:
            if time.monotonic() > deadline:
                raise DoorError(f"{command!r} runs for more than {timeout} s")
            self._pause.wait(wait_s)
            wait_s = min(wait_s * 1.5, 0.2)
        out, err = (base64.b64decode(state.get(k, "")) for k in ("out-data", "err-data"))
        code = state.get("exitcode", 128 + state.get("signal", 0))
        return Result(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def read(self, path: str) -> bytes:
        """Return a file."""
        handle, pieces = self.ask("guest-file-open", path=path, mode="r"), []
        try:
            while True:
                piece = self.ask("guest-file-read", handle=handle, count=PIECE_OUT)
                pieces.append(base64.b64decode(piece["buf-b64"]))
                if piece["eof"] or not piece["count"]:
                    return b"".join(pieces)
        finally:
            self.ask("guest-file-close", handle=handle)

    def write(self, path: str, data: bytes) -> None:
        """Write a file whose folder is there."""
        handle = self.ask("guest-file-open", path=path, mode="w")
        try:
            for at in range(0, len(data), PIECE_IN):
                piece = base64.b64encode(data[at : at + PIECE_IN]).decode()
                self.ask("guest-file-write", handle=handle, buf_b64=piece)
        finally:
            self.ask("guest-file-close", handle=handle)

    def close(self) -> None:
        """Close this end."""
        self._line.close()

    def _send(self, command: str, arguments: dict[str, Any]) -> None:
        self._line.settimeout(10)
        request = {"execute": command} | ({"arguments": arguments} if arguments else {})
        line = json.dumps(request).encode() + b"\n"
        if len(line) > LINE_BYTES:
            raise DoorError(
                f"{command}: {len(line)} bytes are too many: write a file, and run that"
            )
        self._line.sendall(line)

    def _receive(self, timeout: float) -> dict[str, Any]:
        """The next object; {} for anything else that came along a serial line."""
        self._line.settimeout(timeout)
        while b"\n" not in self._buffer:
            data = self._line.recv(1 << 16)
            if not data:
                raise OSError("the guest has gone")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            answer = json.loads(line)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}
