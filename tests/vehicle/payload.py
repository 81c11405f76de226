"""The payload: this checkout as a wheel, in a venv that the guest's own Python made, on a disk.

The wheels of the dependencies are downloaded for the guest's Python, whatever runs the tests, and
kept; the venv is made at this machine's own speed, by the image's python3 in a chroot. Mounted at
/payload in the guest, which is where it was made.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.vehicle import cache
from tests.vehicle.image import make_disk, run

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("agent", "firmware_sim", "pyproject.toml", "README.md", "LICENSE")
GLIBC = 36  # the guest's is 2.36: wheels for this one and older fit
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")


def payload(image: Path) -> Path:
    """Return the payload's disk for this checkout and an image, made once."""
    found = wheels()
    parts: list[str | bytes] = [Path(__file__).read_bytes(), image.name, found.name]
    for path in _files():
        parts += [str(path.relative_to(ROOT)), path.read_bytes()]
    place = cache.get("payload", cache.key(parts), lambda new: _make(new, image, found))
    return place / "disk"


def _files() -> list[Path]:
    found = [p for name in SOURCES for p in (ROOT / name, *(ROOT / name).rglob("*"))]
    return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)


def wheels() -> Path:
    """Return a folder with the wheels of what the agent needs at run time, downloaded once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needs: list[str] = project["dependencies"]
    tags = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)]
    tags += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    platforms = [f"--platform={tag}" for tag in tags]

    def download(place: Path) -> None:
        python = ["--implementation=cp", "--python-version=3.11"]
        python += ["--abi=cp311", "--abi=abi3", "--abi=none", *platforms]
        run(*PIP, "download", "--dest", str(place), "--only-binary=:all:", *python, *needs)

    return cache.get("wheels", cache.key([str(GLIBC), *needs]), download)


def _make(place: Path, image: Path, wheels: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:  # swept with `place`, if we are killed
        work = Path(folder)
        # From a copy: setuptools would take up what an older build left beside the sources.
        for path in _files():
            copy = work / "source" / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        ours = work / "wheel"
        run(*PIP, "wheel", "--no-deps", "--wheel-dir", str(ours), str(work / "source"))
        tree = work / "payload"
        (tree / "wheels").mkdir(parents=True)
        for wheel in (*wheels.glob("*.whl"), *ours.glob("*.whl")):
            shutil.copy2(wheel, tree / "wheels")
        _in_chroot(image / "root", tree)
        shutil.rmtree(tree / "wheels")
        used_mb = int(run("du", "-sm", str(tree)).split()[0])
        make_disk(place / "disk", "payload", used_mb * 12 // 10 + 16, tree)


def _in_chroot(root: Path, tree: Path) -> None:
    """Make the venv with the guest's Python, the tree bound to /payload in a mount namespace.

    The namespace ends with its only process, so nothing stays mounted, and two builds on one image
    do not see each other.
    """
    script = """
        set -e
        mount --bind "$2" "$1/payload"
        mount -t proc proc "$1/proc"
        exec chroot "$1" env -i PATH=/usr/bin:/usr/sbin PYTHONDONTWRITEBYTECODE=1 HOME=/payload \
            TMPDIR=/payload LC_ALL=C.UTF-8 sh -ec '
            python3 -m venv /payload/venv
            /payload/venv/bin/python -m pip install -q --no-index --find-links /payload/wheels \
                --no-cache-dir --no-compile inland
            /payload/venv/bin/python -m compileall -q /payload/venv/lib'
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(root), str(tree)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the venv of the guest: {(done.stdout + done.stderr)[-3000:]}")
