"""By hand: `python -m tests.power NAME...`; without a name, all workloads."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.power import cuts, recording, workloads
from tests.power.everywhere import everywhere


def main(names: list[str]) -> int:
    """Cut workloads everywhere and print what breaks; returns how many have broken promises."""
    with tempfile.TemporaryDirectory(prefix="inland-power-", dir=cuts.MEMORY) as place:
        library = recording.build(Path(place))
        found = everywhere(library, Path(place), names or sorted(workloads.every()))
    for name, (looks, *broken) in found.items():
        print(f"{name}: {looks}", *broken, sep="\n    ")
    return sum(len(lines) > 1 for lines in found.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
