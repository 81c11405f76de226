"""Compiled Python for the boot service: without docstrings, in a folder of its own.

`-OO` saves two megabytes of memory for each process. Nobody ships bytecode for it, the service's
users may write none, and to compile at each boot would cost more time and memory than it saves. So
an installation compiles, as root, what the two processes load. The folder is a cache: without it,
or with a stale one, the service starts all the same, only later.

No check of input is an `assert` (tests/test_asserts.py), so nothing is lost with them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import agent
from agent.errors import ConfigError

BYTECODE: Final = Path("/var/cache/inland/bytecode")
OPTIONS: Final = ("-I", "-B", "-OO", "-X", f"pycache_prefix={BYTECODE}")
# Without `site`, by its path: see there. An image's own path of it is not known here.
START: Final = (*OPTIONS, "-S", str(Path(agent.__file__).parent / "cli" / "__main__.py"))
COMPILE_S: Final = 300.0
# What is imported is written by the interpreter itself; our own modules that are imported later, on
# use, by compileall. A library that is not there is not needed by this car. At the end of the list:
# what libraries import on use, 17 MB of memory if the largest of them had to be compiled then.
_PROGRAM: Final = """\
import compileall, contextlib, importlib, os
for name in (
    "agent.cli.main", "agent.cli.capture", "agent.cli.uplink", "agent.service.capture",
    "agent.service.uplink", "agent.service.answers", "agent.service.wall", "agent.capture.sealer",
    "agent.capture.socketcan", "agent.capture.slcan", "agent.vault.vault", "agent.uplink.run",
    "cryptography.hazmat.backends.openssl.backend", "encodings.ascii", "encodings.idna",
    "google.protobuf.descriptor_pb2", "numpy.ma", "pwd", "tempfile",
):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
compileall.compile_dir(os.path.dirname(importlib.import_module("agent").__file__), quiet=2)
"""


def compile_for(python: str, folder: Path = BYTECODE) -> bool:
    """Compile what the processes load; return whether anything was new.

    Args:
        python: the interpreter of the units.
        folder: where the units look for it.

    Raises:
        ConfigError: the interpreter fails.
        OSError: the folder cannot be made.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = _stamps(folder)
    command = [python, "-I", "-OO", "-X", f"pycache_prefix={folder}", "-c", _PROGRAM]
    done = subprocess.run(
        command, cwd="/", env={}, umask=0o022, capture_output=True, text=True, timeout=COMPILE_S,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConfigError(f"cannot compile for the service: {last}", where=python)
    return _stamps(folder) != before


def _stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.pyc")}
