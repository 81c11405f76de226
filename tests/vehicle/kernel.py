"""The kernel for QEMU: Debian's linux-image-amd64, with a start disk (initrd) of our own.

- The disk is the one that User-Mode Linux boots, untouched: the start disk brings the modules, and
  lays them over the disk's own folder of modules.
- Of 4,000 modules those remain that the emulated hardware needs, and what they need themselves.
- busybox is the whole start disk beside them: Debian's own would be the slowest part of a boot.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.vehicle import cache
from tests.vehicle.image import SUITE, run

WANTED = re.compile(
    r"/(virtio_(pci|blk|net|console)|virtio-rng|ext4|crc32c\w*|crc32c-intel|autofs4"
    r"|can|can-(raw|gw|bcm)|vcan|kvaser_pci|xhci-pci|xhci-hcd|ftdi_sio|sch_netem|loop)\.ko$"
)
FIRST = "crc32c_generic crc32c-intel virtio_pci virtio_blk ext4"
INIT = f"""\
#!/bin/busybox sh
set -e
/bin/busybox mkdir -p /proc /sys /dev /root /bin /sbin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in {FIRST}; do modprobe $module; done
until [ -b /dev/vda ]; do usleep 10000; done
mount -t ext4 -o noatime /dev/vda /root
mount -t tmpfs -o mode=755 modules /root/usr/lib/modules
cp -a /lib/modules/. /root/usr/lib/modules/
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
"""
DOWNLOAD = """\
cd "$1"
apt-get -qq -o APT::Sandbox::User=root download \
    $(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p')
"""


def kernel(image: Path) -> Path:
    """Return a folder with `kernel` and `initrd`, made once.

    Args:
        image: as `image.image` returns it; its depmod is used.
    """
    return cache.get("kernel", cache.key([Path(__file__).read_bytes(), image.name]),
                     lambda place: _make(place, image))  # fmt: skip


def _make(place: Path, image: Path) -> None:
    work = place / "work"
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
    command += ["--include=busybox-static", '--aptopt=Acquire::Retries "5"']
    run(*command, f"--extract-hook={DOWNLOAD}", SUITE, str(work))
    (package,) = work.glob("linux-image-*.deb")
    run("dpkg-deb", "-x", str(package), str(work / "kernel"))
    (binary,) = (work / "kernel" / "boot").glob("vmlinuz-*")
    shutil.copy2(binary, place / "kernel")
    root = work / "initrd"
    _take_modules(work / "kernel" / "lib" / "modules", root / "lib" / "modules", image)
    (root / "bin").mkdir()
    shutil.copy2(work / "bin" / "busybox", root / "bin" / "busybox")
    (root / "init").write_text(INIT, "utf-8")
    (root / "init").chmod(0o755)
    pack = f"cd {root} && {work}/bin/busybox find . | {work}/bin/busybox cpio -o -H newc"
    run("sh", "-ec", f"{pack} >{place}/initrd")
    shutil.rmtree(work)


def _take_modules(found: Path, place: Path, image: Path) -> None:
    """Copy the wanted modules and what they depend on."""
    (source,) = found.iterdir()
    _depmod(found, source.name, image)
    needs = dict(line.split(":", 1) for line in (source / "modules.dep").read_text().splitlines())
    kept = {name for name in needs if WANTED.search(name)}
    kept |= {needed for name in kept for needed in needs[name].split()}
    for name in (*kept, "modules.order", "modules.builtin", "modules.builtin.modinfo"):
        target = place / source.name / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target)
    _depmod(place, source.name, image)


def _depmod(modules: Path, version: str, image: Path) -> None:
    """Run the image's depmod on a folder of modules, bound into the image meanwhile."""
    script = """
        mkdir -p "$2/bound/lib"
        mount --bind "$2/bound" "$1/payload"
        mkdir -p "$1/payload/lib/modules"
        mount --bind "$2" "$1/payload/lib/modules"
        chroot "$1" depmod -b /payload "$3"
    """
    run("unshare", "--mount", "sh", "-ec", script, "sh", str(image / "root"), str(modules), version)
    shutil.rmtree(modules / "bound")
