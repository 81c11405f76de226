"""`python -m tests.vehicle [pytest arguments]`: install and build what is needed, run the suite."""

from __future__ import annotations

import sys
import time

import pytest

from tests.vehicle import needs
from tests.vehicle.image import image
from tests.vehicle.payload import payload


def main() -> int:
    """Return pytest's exit code, or 3 where the guest cannot run."""
    needs.install()
    if why := needs.missing():
        print(f"the car's computer cannot run here: it {why}", file=sys.stderr)
        return 3
    began = time.monotonic()
    payload(image())
    print(f"image and payload: {time.monotonic() - began:.1f} s")
    return int(pytest.main(["-n", "0", "-m", "vehicle", *(sys.argv[1:] or ["tests/vehicle"])]))


if __name__ == "__main__":
    sys.exit(main())
