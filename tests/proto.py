"""Generate agent/pb from proto/: `python -m tests.proto`. A test checks that it is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> None:
    """Write the generated modules below `out`, with types beside them."""
    sources = sorted((ROOT / "proto").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    command += [f"--python_out={out}", f"--pyi_out={out}", *map(str, sources)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    generate(ROOT)
