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


@contextmanager
def software_tpm(folder: Path) -> Iterator[str]:
    """Run a TPM that keeps its state in a folder; gives what reaches it."""
    port = free_port()
    while True:  # two ports that follow each other, as the TCTI wants them
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + 1)):
                break
        port = free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--server",
            f"type=tcp,port={port},bindaddr=127.0.0.1", "--ctrl",
            f"type=tcp,port={port + 1},bindaddr=127.0.0.1", "--flags",
            "not-need-init,startup-clear",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def is_up() -> bool:
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", port + 1))

    try:
        wait_for(is_up, 10, "the TPM")
        yield f"swtpm:host=127.0.0.1,port={port}"
    finally:
        process.terminate()
        process.wait(10)
