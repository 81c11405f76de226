"""What the uplink costs before it does anything."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys
import agent.uplink.run
banned = {"can", "numpy", "zstandard", "sqlite3", "cryptography", "agent.vault.vault"}
print(sorted(banned & set(sys.modules)))
print(int(open("/proc/self/statm").read().split()[1]) * 4096)
"""


def test_uplink_imports_little_and_stays_below_32_mib() -> None:
    """No CAN, no spool, no sealing: and `cryptography` alone would cost 8 MiB."""
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
    )
    banned, resident_bytes = probe.stdout.splitlines()
    assert banned == "[]"
    assert int(resident_bytes) < 32 << 20
