"""A TPM 2.0 in software, for tests of what only a TPM can promise."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.cli.processes import free_port
from tests.rig import wait_for

needs_tpm = pytest.mark.skipif(
    not (shutil.which("swtpm") and shutil.which("tpm2_nvincrement")),
    reason="needs a TPM in software: apt-get install swtpm tpm2-tools",
)
TRIES = 5  # another process may take one of the two ports before it does


@contextmanager
def software_tpm(folder: Path) -> Iterator[str]:
    """Run a TPM that keeps its state in a folder; gives what reaches it."""
    folder.mkdir()
    for _ in range(TRIES):
        port = free_port()
        process = _started(folder, port)
        try:
            wait_for(lambda: process.poll() is not None or _answers(port + 1), 30, "the TPM")  # noqa: B023
            if process.poll() is None:
                yield f"swtpm:host=127.0.0.1,port={port}"
                return
        finally:
            process.terminate()
            process.wait(10)
    pytest.fail("no two ports that follow each other were free")


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start it on two ports that follow each other, as the TCTI wants them."""
    return subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--server",
            f"type=tcp,port={port},bindaddr=127.0.0.1", "--ctrl",
            f"type=tcp,port={port + 1},bindaddr=127.0.0.1", "--flags",
            "not-need-init,startup-clear",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))
