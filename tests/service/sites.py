"""A car's root folder, to install the boot service into: without root, without systemd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.service.premises import Wish, survey
from agent.service.unit_files import Credential, Site

SITE = Site(
    start=("/opt/inland/bin/python", "-I", "-B", "-m", "agent.cli"),
    config=Path("/etc/inland/agent.toml"),
    state=Path("/var/lib/inland"),
    run=Path("/run/inland"),
    mounts=(Path("/opt/inland/bin"), Path("/etc/inland")),
    capture_keys=(Credential("ledger.key", Path("/etc/inland/ledger.key")),),
    uplink_keys=(Credential("vehicle.key", Path("/etc/inland/vehicle.key")),),
    allowed=("203.0.113.0/24", "127.0.0.53/32"),
)
BUS = """
[[bus]]
name = "can0"
interface = "socketcan"
channel = "can0"
"""


class Image:
    """The root folder of a car, with a bundle in /etc/inland and an interpreter in /opt."""

    config = Path("/etc/inland/agent.toml")
    python = Path("/opt/inland/bin/python")

    def __init__(self, root: Path, bundle: Path) -> None:
        self.root = root
        home = root / "etc/inland"
        home.mkdir(parents=True)
        for file in bundle.iterdir():
            (home / file.name).write_bytes(file.read_bytes())
            (home / file.name).chmod(0o600 if file.suffix == ".key" else 0o644)
        self.put(self.python, "#!/bin/sh\n").chmod(0o755)
        self.put(Path("/etc/resolv.conf"), "nameserver 198.51.100.1\nnameserver 2001:db8::1\n")
        self.edit('"state"', '"/var/lib/inland"')
        self.edit('"run"', '"/run/inland"')
        with (home / "agent.toml").open("a") as file:
            file.write(BUS)
        for folder in (root, *(one for one in root.rglob("*") if one.is_dir())):
            folder.chmod(0o755)

    def outside(self, path: Path) -> Path:
        """Where a path of the car is here."""
        return self.root / path.relative_to("/")

    def put(self, path: Path, text: str) -> Path:
        """Write a file of the car."""
        there = self.outside(path)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text, "utf-8")
        return there

    def edit(self, old: str, new: str, path: Path = config) -> None:
        """Replace something in a file, which is there."""
        there = self.outside(path)
        text = there.read_text("utf-8")
        assert old in text
        there.write_text(text.replace(old, new), "utf-8")

    def survey(self, resolvers: Sequence[str] = ()) -> tuple[Site | None, list[str]]:
        """What is found, and what is wrong."""
        wish = Wish(self.config, self.root, self.python, tuple(resolvers))
        site, mistakes = survey(wish)
        return site, [str(one) for one in mistakes]

    def files(self) -> dict[str, bytes]:
        """Every file and link of the car."""
        return {
            str(one.relative_to(self.root)): (
                str(one.readlink()).encode() if one.is_symlink() else one.read_bytes()
            )
            for one in self.root.rglob("*")
            if one.is_symlink() or one.is_file()
        }
