"""`python -m tests.vehicle [pytest arguments]`: install and build what is needed, run the suite.

Two guests at a time, each on a CPU of its own, a module of tests each.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vehicle import needs
from tests.vehicle.image import image
from tests.vehicle.kernel import kernel
from tests.vehicle.payload import payload, wheels

UNAVAILABLE = 69  # sysexits.h EX_UNAVAILABLE


def main() -> int:
    """Return pytest's exit code, or UNAVAILABLE where the guest cannot run."""
    needs.install()
    if why := needs.missing():
        print(f"the car's computer cannot run here: it {why}", file=sys.stderr)
        return UNAVAILABLE
    began = time.monotonic()
    with ThreadPoolExecutor() as beside:
        waiting = [beside.submit(wheels)]
        built = image()
        waiting += [beside.submit(make, built) for make in _made_of_an_image()]
        for one in waiting:
            one.result()
    print(f"image, payload and kernel: {time.monotonic() - began:.1f} s")
    workers = ["-n", str(min(2, len(os.sched_getaffinity(0)))), "--dist", "loadfile"]
    workers.append("--no-loadscope-reorder")  # longest module first, see conftest.py
    # The tests of a module are what happens to one computer, in order.
    options = [*workers, "-p", "no:randomly", "-m", "vehicle"]
    return int(pytest.main([*options, *(sys.argv[1:] or ["tests/vehicle"])]))


def _made_of_an_image() -> list[Callable[[Path], Path]]:
    return [payload] if needs.missing_qemu() else [payload, kernel]


if __name__ == "__main__":
    sys.exit(main())
