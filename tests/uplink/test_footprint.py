"""What the uplink costs before it does anything; what it loads: tests/service/test_footprint.py."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import agent.uplink.run
print(int(open("/proc/self/statm").read().split()[1]) * 4096)
"""


def test_uplink_stays_below_32_mib() -> None:
    """`cryptography` alone would cost 8 MiB."""
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
    )
    assert int(probe.stdout) < 32 << 20
