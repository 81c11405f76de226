"""The guest's disk: Debian 12 as a car's computer has it, and the kernel that runs it as a process.

- mmdebstrap makes the tree, `mke2fs -d` the disk: no loop device, nothing mounted on this machine.
- The kernel is Debian's own User-Mode Linux package, installed into the tree and moved out of it.
- What the guest finds at boot: vcan0 is up; a disk labelled "payload" is mounted read-only on
  /payload, one labelled "data" on /data; `inland` is on the path; qemu-guest-agent answers on the
  first serial line, which is how tests reach the guest while its network is cut.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.vehicle import cache
from tests.vehicle.net import HOST, HOST_NAME

SUITE = "bookworm"
PACKAGES = """
    systemd systemd-sysv udev dbus kmod iproute2 iputils-ping procps ca-certificates e2fsprogs
    sqlite3 python3 python3-venv can-utils qemu-guest-agent tpm2-tools user-mode-linux
"""
DISK_MB = 1500  # sparse: what the guest may fill
LEFT_OUT = ("doc", "man", "info", "locale")  # of /usr/share, as on an embedded board
# Of the kernel's modules a board in a car needs a handful; depmod and udev read all there are.
MODULES = re.compile(r"/(can|sched|loop|tun|dummy|veth|nls|crc|softdog|overlayfs|fuse)")

TREE = {
    "/etc/hostname": "vehicle\n",
    "/etc/hosts": f"127.0.0.1 localhost vehicle\n{HOST} {HOST_NAME}\n",
    "/etc/fstab": "LABEL=root / ext4 errors=remount-ro,noatime 0 1\n",
    "/etc/machine-id": "",
    "/etc/modules-load.d/can.conf": "vcan\ncan_raw\n",
    "/etc/systemd/system/vcan0.service": """\
[Unit]
Description=Virtual CAN bus vcan0
After=systemd-modules-load.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip link add dev vcan0 type vcan
ExecStart=/sbin/ip link set vcan0 mtu 72 txqueuelen 1000 up
ExecStop=/sbin/ip link del vcan0
[Install]
WantedBy=multi-user.target
""",
    "/etc/systemd/system/test-door.service": """\
[Unit]
Description=The tests' way in: QEMU guest agent on a serial line
ConditionKernelCommandLine=inland.door=serial
[Service]
ExecStart=/usr/sbin/qemu-ga -m isa-serial -p /dev/ttyS0
Restart=always
RestartSec=0
[Install]
WantedBy=multi-user.target
""",
    "/etc/udev/rules.d/90-disks.rules": "".join(
        f'ACTION=="add", SUBSYSTEM=="block", ENV{{ID_FS_LABEL}}=="{label}", '
        f'TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="{label}.mount"\n'
        for label in ("payload", "data")
    ),
    "/etc/systemd/system/payload.mount": """\
[Mount]
What=/dev/disk/by-label/payload
Where=/payload
Type=ext4
Options=ro,noload
""",
    "/etc/systemd/system/data.mount": """\
[Mount]
What=/dev/disk/by-label/data
Where=/data
Type=ext4
Options=noatime
""",
}
ENABLED = ("systemd-networkd", "systemd-network-generator", "vcan0", "test-door")
MASKED = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer getty@tty1.service serial-getty@ttyS0.service
    systemd-networkd-wait-online.service dev-hugepages.mount systemd-binfmt.service
    proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount systemd-pstore.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service
"""


def image() -> Path:
    """Return a folder with `disk` (ext4), `kernel` and `root/` (the tree), made once."""
    return cache.get("image", cache.key([Path(__file__).read_bytes(), HOST, HOST_NAME]), _make)


def _make(place: Path) -> None:
    root = place / "root"
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
    command += ['--aptopt=Acquire::Retries "5"', f"--include={','.join(PACKAGES.split())}"]
    run(*command, SUITE, str(root))
    _take_kernel(root, place / "kernel")
    for name, text in TREE.items():
        path = root / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    for name in ("payload", "data", "var/log/journal"):  # the journal is kept, as in a car
        (root / name).mkdir(exist_ok=True)
    (root / "usr/local/bin/inland").symlink_to("/payload/venv/bin/inland")
    run("chroot", str(root), "passwd", "--quiet", "--delete", "root")
    run("chroot", str(root), "systemctl", "--quiet", "enable", *ENABLED)
    run("chroot", str(root), "systemctl", "--quiet", "mask", *MASKED.split())
    make_disk(place / "disk", "root", DISK_MB, root)


def _take_kernel(root: Path, kernel: Path) -> None:
    """Move the kernel out of the tree, its modules to where modprobe looks, and depmod them."""
    shutil.move(root / "usr/bin/linux.uml", kernel)
    (modules,) = (root / "usr/lib/uml/modules").iterdir()
    for path in modules.rglob("*.ko"):
        if not MODULES.search(str(path.relative_to(modules))):
            path.unlink()
    shutil.copytree(modules, root / "usr/lib/modules" / modules.name, symlinks=True)
    shutil.rmtree(root / "usr/lib/uml")
    run("chroot", str(root), "depmod", modules.name)


def make_disk(path: Path, label: str, size_mb: int, tree: Path | None = None) -> None:
    """Make an ext4 disk, sparse, with a tree's files on it or none."""
    # The journal is added afterwards: copying through it would take three times as long.
    content = [] if tree is None else ["-d", str(tree)]
    run("mke2fs", "-q", "-t", "ext4", "-L", label, "-O", "^has_journal", "-m", "0",
        "-E", "root_owner=0:0,lazy_itable_init=0", *content, str(path), f"{size_mb}M")  # fmt: skip
    run("tune2fs", "-O", "has_journal", str(path))


def run(*command: str) -> str:
    """Run a command quietly; what it said is shown if it fails."""
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, errors="replace"
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{' '.join(command[:4])} ...: exit code {done.returncode}\n{said}")
    return done.stdout
