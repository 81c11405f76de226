"""What this machine must have before the car's computer can be built and booted on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = {  # a command that shows it is there
    "mmdebstrap": "mmdebstrap",
    "e2fsprogs": "mke2fs",
    "iproute2": "ip",
    "mosquitto": "mosquitto",
    "util-linux": "setpriv",
}
QEMU_PACKAGES = {  # for the machine with emulated hardware
    "qemu-system-x86": "qemu-system-x86_64",
    "swtpm": "swtpm",
    "nbdkit": "nbdkit",
}
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def missing_packages(packages: dict[str, str]) -> list[str]:
    """Names of Debian packages that are not installed."""
    return [name for name, tool in packages.items() if shutil.which(tool, path=_PATH) is None]


def missing() -> str:
    """Why the guest cannot run here; empty if it can."""
    if os.geteuid() != 0:
        return "needs root (network namespaces, a tap, a chroot)"
    if os.uname().machine != "x86_64":
        return "needs an x86-64 machine: the guest's kernel is a process of it"
    if why := _missing(PACKAGES):
        return why
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs /dev/net/tun"
    spaces = ["unshare", "--net", "--mount", "--pid", "--fork", "true"]
    if subprocess.run(spaces, capture_output=True, check=False).returncode:
        return "needs namespaces, which this machine's root may not make"
    return ""


def missing_qemu() -> str:
    """Why there is no emulated hardware here, beside what `missing` says; empty if there is."""
    return _missing(QEMU_PACKAGES)


def _missing(packages: dict[str, str]) -> str:
    names = missing_packages(packages)
    return f"needs {', '.join(names)}: apt-get install {' '.join(names)}" if names else ""


def install() -> None:
    """Install the Debian packages that are missing, quietly, where we are root."""
    packages = missing_packages(PACKAGES | QEMU_PACKAGES)
    if not packages or os.geteuid() != 0 or not Path("/usr/bin/apt-get").exists():
        return
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=500"]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            [*apt, *command], capture_output=True, text=True, env=quiet, check=False
        )
        if done.returncode:
            raise SystemExit(f"cannot install {' '.join(packages)}:\n{done.stdout}{done.stderr}")
