"""Odd input to the commands for policies, consents, the ledger and zones.

Whatever is handed to them ends in one line that says what, where and what to do, with the right
exit code, and leaves everything as it was.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main as cli
from agent.pb.ledger_pb2 import BusState
from firmware_sim.__main__ import command as simulate
from tests.policy.making import EXAMPLES
from tests.rig import EVERYTHING, INLAND, Said, typed
from tests.vault.world import Car

pytestmark = pytest.mark.timeout(120)
ZONES = {"type": "FeatureCollection", "features": [{
    "type": "Feature", "properties": {"class": "military"}, "geometry": {
        "type": "Polygon", "coordinates": [[[2, 1], [2.01, 1], [2.005, 1.01], [2, 1]]],
    },
}]}  # fmt: skip
CONSENT = """
[[consent]]
category = "powertrain"
max_days = 30
each_drive = false

[[collect]]
id = "motor"
category = "powertrain"
purpose = "product_improvement"
basis = "consent"
necessity = "a test"
frames = ["*:0x100"]
keep = "1d"
recipients = "region"
"""


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., Said]:
    """Run `inland` in this process, through its own main."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["inland", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def refused(run) -> Callable[..., str]:
    """Run a command that has to fail with a code; return its one line."""

    def call(*arguments: object, code: int) -> str:
        done = run(*arguments)
        assert done.code == code, done
        lines = done.err.splitlines()
        assert len(lines) == 1, done.err
        assert lines[0].startswith("error: ")
        assert lines[0].isprintable()
        return lines[0]

    return call


def command(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own."""
    return subprocess.run(
        [*INLAND, *map(str, arguments)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, timeout=60, check=False, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two regions, a car of the first with a policy and a ledger, and files of every kind."""
    folder = tmp_path_factory.mktemp("made")

    def good(*arguments: object) -> None:
        with contextlib.chdir(folder):
            done = typed(*arguments)
        assert done.code == 0, done.err

    def apart(*arguments: object) -> None:
        done = command(*arguments, cwd=folder, stdout=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr

    for name in ("cn", "eu"):
        good("station", "init", name, "--region", name, "--host", "localhost", "--port", 8883,
             "--prefix", "127.0.0.0/8")  # fmt: skip
        good("station", "enroll", name, f"{name}-car")
    card = (folder / "cn-car" / "region.toml").read_text().splitlines(keepends=True)
    (folder / "bench.toml").write_text("".join(x for x in card if not x.startswith("policy_root")))
    (folder / "zones.json").write_text(json.dumps(ZONES))
    (folder / "p.toml").write_text(EVERYTHING + CONSENT)
    (folder / "gone.toml").write_text(EVERYTHING.replace("2099", "2020"))
    dbc = EXAMPLES.parents[2] / "firmware_sim" / "car.dbc"
    fleet = (EXAMPLES / "cn-fleet.toml").read_text()
    (folder / "fleet.toml").write_text(fleet.replace("../../../firmware_sim/car.dbc", str(dbc)))
    for name in ("p", "gone"):
        good("policy", "build", f"{name}.toml")
    good("station", "policy", "publish", "p.policy", "--region", "cn")
    apart("station", "policy", "export", "drop", "--region", "cn")
    apart("policy", "install", "drop", "--config", "cn-car/agent.toml")
    apart("station", "zones", "seal", "zones.json", "--region", "cn", "-o", "zones.sealed")
    simulate.main(["--seconds", "2", "--log", str(folder / "drive.log")], standalone_mode=False)
    car = Car(folder / "cn-car" / "state")
    for _ in range(30):
        car.vault.record(BusState(channel="can0", state="up"))
    car.shut()
    return folder


@pytest.fixture
def here(made: Path, monkeypatch) -> Path:
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def copy(made: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder with its content: what a command may have changed.

    Whoever reads a SQLite file makes its -shm and an empty -wal.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.stat().st_size < 1 << 24 and not path.name.startswith("spool.db-")
    }  # fmt: skip


def changed(before: dict[str, bytes | None], after: dict[str, bytes | None]) -> set[str]:
    """Names that came, went or are something else now."""
    return {name for name in before.keys() | after.keys() if
            (name in before, before.get(name)) != (name in after, after.get(name))}  # fmt: skip


def spoil(path: Path, kind: str) -> Path:
    """Put something odd in a place."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "empty":
        path.touch()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\0" + bytes(range(256)) * 8)
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(3 << 30)
    elif kind == "deep":
        path.write_bytes(b"x = " + b"[" * 100_000)
    path.chmod(0o700 if path.is_dir() else 0o600) if path.exists() else None
    return path


CONFIG = ("--config", "cn-car/agent.toml")
# What is odd stands where ODD stands.
ODD = "ODD"
FILES = (
    ("policy", "check", ODD), ("policy", "diff", ODD, "p.policy"),
    ("policy", "diff", "p.policy", ODD), ("policy", "simulate", ODD, "drive.log"),
    ("policy", "simulate", "p.policy", ODD), ("policy", "show", ODD),
    ("policy", "install", ODD, *CONFIG), ("policy", "install", "drop", "--config", ODD),
    ("policy", "install", "p.policy", "--state", "none", "--region-card", ODD),
    ("ledger", "--config", ODD), ("station", "policy", "publish", ODD, "--region", "cn"),
    ("station", "zones", "seal", ODD, "--region", "cn", "-o", "z"),
    ("station", "zones", "show", ODD), ("station", "zones", "show", ODD, "--region", "cn"),
)  # fmt: skip
FOLDERS = (
    ("consent", "ls", "--state", ODD), ("consent", "withdraw", "--all", "--state", ODD),
    ("consent", "grant", "powertrain", "--for", "1d", "--yes", "--state", ODD),
    ("consent", "refuse", "powertrain", "--state", ODD), ("ledger", "--state", ODD),
    ("station", "policy", "ls", "--region", ODD), ("station", "policy", "refresh", "--region", ODD),
    ("station", "policy", "publish", "p.policy", "--region", ODD),
    ("station", "policy", "export", "to", "--region", ODD),
    ("station", "policy", "withdraw-next", "--region", ODD),
    ("station", "policy", "rotate", "targets", "targets-1", "--region", ODD),
    ("station", "zones", "seal", "zones.json", "--region", ODD, "-o", "z"),
    ("station", "zones", "show", "zones.sealed", "--region", ODD),
)  # fmt: skip


@pytest.mark.parametrize("kind", ["empty", "binary", "directory", "missing", "deep", "pipe"])
@pytest.mark.parametrize("suffix", [".policy", ".toml"])
def test_files_that_are_none(here: Path, tmp_path: Path, refused, run, kind: str, suffix: str):
    odd = spoil(tmp_path / f"odd{suffix}", kind)
    before = tree(here)
    for words in FILES:
        done = run(*(str(odd) if word == ODD else word for word in words))
        line = refused(*(str(odd) if word == ODD else word for word in words), code=done.code)
        assert done.code in (1, 2), line
        assert str(odd) in line, "which file it was"
        if kind in ("directory", "missing", "pipe") and words != FILES[4]:
            assert done.code == 2, line  # nothing was refused: there is no such thing
    assert changed(before, tree(here)) == set()


@pytest.mark.parametrize("kind", ["empty", "binary", "missing"])
def test_folders_that_are_none(here: Path, tmp_path: Path, refused, run, kind: str):
    odd = spoil(tmp_path / "odd", kind)
    before = tree(here), tree(tmp_path)
    for words in FOLDERS:
        done = run(*(str(odd) if word == ODD else word for word in words))
        line = refused(*(str(odd) if word == ODD else word for word in words), code=done.code)
        assert done.code == (3 if words[0] == "ledger" else 2), line
        assert str(odd) in line
    assert changed(before[0], tree(here)) | changed(before[1], tree(tmp_path)) == set()


@pytest.mark.parametrize("words", [FILES[7], FILES[8], FILES[9]])
def test_a_huge_configuration_is_not_read(here: Path, tmp_path: Path, words: tuple[str, ...]):
    odd = spoil(tmp_path / "odd.toml", "huge")
    done = command(
        *(str(odd) if word == ODD else word for word in words), stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "larger than 1024 KiB" in done.stderr


def test_wrong_use_is_one_line_that_says_where_it_is_explained(here: Path, refused):
    for words in (
        ("policy", "check"), ("policy", "diff", "p.policy"), ("policy", "chek"), ("nonsense",),
        ("policy", "simulate", "p.policy", "drive.log", "--hours", "0"),
        ("ledger", "--year", "9999"), ("ledger", "--last", "x"), ("ledger", "--last"),
        ("station", "policy", "rotate", "nobody", "x", "--region", "cn"),
        ("station", "zones", "seal", "zones.json"), ("consent", "grant", "--nonsense"),
    ):  # fmt: skip
        line = refused(*words, code=2)
        assert "--help`" in line


def test_what_is_meant_wrong_is_said(here: Path, refused):
    for words, code, part in (
        (("policy", "install", "p.toml", *CONFIG), 2, "inland policy build p.toml"),
        (("policy", "install", "p.policy", *CONFIG), 1, "is not signed"),
        (("policy", "install", "drop", "--config", "eu-car/agent.toml"), 1, "signed by 0/1 keys"),
        (("policy", "install", "gone.policy", "--state", "none", "--region-card", "bench.toml"),
         1, "gone.policy: policy everything version 1: has expired"),
        (("policy", "simulate", "p.policy", "drive.log", "--zones-key", "cn/zones.key"), 2,
         "no zones to open"),
        (("policy", "simulate", "p.policy", "drive.log", "--without", "battery"), 2, "--without"),
        (("policy", "simulate", "p.policy", "drive.log", "--map", "can0"), 2, "--map"),
        (("station", "policy", "publish", "p.policy", "--region", "eu"), 1,
         "is for region urn:inland:region:cn, not for urn:inland:region:eu"),
        (("station", "policy", "publish", "gone.policy", "--region", "cn"), 1, "has expired"),
        (("station", "policy", "publish", "p.policy", "--region", "cn", "--percent", "0"), 2,
         "1 to 100"),
        (("station", "policy", "withdraw-next", "--region", "cn"), 1, "nothing is staged"),
        (("station", "policy", "export", "cn", "--region", "cn"), 2, "not empty"),
        (("station", "zones", "show", "zones.sealed", "--region", "eu"), 1, "another region"),
        (("station", "zones", "show", "zones.sealed", "--bounds"), 2, "--region"),
        (("station", "zones", "seal", "zones.json", "--region", "cn", "-o", "no/z"), 2,
         "no/z: cannot write"),
        (("policy", "build", "p.toml", "-o", "no/p"), 2, "no/p: cannot write"),
        (("consent", "grant", "powertrain", *CONFIG), 2, "needs an end"),
        (("consent", "grant", "powertrain", "--for", "1d", *CONFIG), 2, "--yes"),
        (("consent", "grant", "powertrain", "--for", "1d", "--until", "2027-01-01", *CONFIG), 2,
         "one end"),
        (("consent", "withdraw", *CONFIG), 2, "--all"),
    ):  # fmt: skip
        said = refused(*words, code=code) if "grant" not in words else None
        assert said is None or part in said, words
    assert not (here / "none").exists()


def test_names_cannot_move_the_cursor_of_a_terminal(here: Path, refused):
    for name in ("a\nb", "\x1b[31mred", "\r", "x\u202ey"):
        for words in (
            ("policy", "check", name), ("ledger", "--state", name),
            ("station", "policy", "export", "to", "--region", "cn", "--group", name),
        ):  # fmt: skip
            line = refused(*words, code=3 if "--state" in words else 2)
            assert "\\" in line


# --- what is stored ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "binary", "directory", "pipe", "deep"])
def test_a_broken_delivery_leaves_the_policy_in_force(copy: Path, refused, run, kind: str):
    state = copy / "cn-car" / "state" / "policy"
    before = in_force(state)
    for path in [path.relative_to("drop") for path in Path("drop").rglob("*") if path.is_file()]:
        shutil.copytree("drop", "broken")
        spoil(Path("broken") / path, kind)
        # A car that knows the region already needs less of it.
        assert run("policy", "install", "broken", *CONFIG).code in (0, 1)
        assert in_force(state) == before
        if path.name != "1.root.json":  # that one is in the region card
            refused("policy", "install", "broken", *CONFIG, "--state", "fresh", code=1)
            assert in_force(copy / "fresh" / "policy") == {}
        shutil.rmtree("broken")
    shutil.copytree("drop", "broken")
    (target,) = Path("broken", "targets").iterdir()
    os.truncate(target, 100)
    refused("policy", "install", "broken", *CONFIG, code=1)
    assert in_force(state) == before
    assert json.loads(run("policy", "show", *CONFIG, "--json").out)["policy"] == "everything"


def in_force(folder: Path) -> dict[str, bytes | None]:
    """What decides, and what may decide later."""
    return {name: data for name, data in tree(folder).items() if not name.startswith("tuf")}


@pytest.mark.parametrize("kind", ["empty", "binary", "directory", "pipe", "huge", "deep"])
def test_broken_files_of_the_state_folder(copy: Path, refused, run, kind: str):
    state = copy / "cn-car" / "state"
    spoil(state / "consent.json", kind)
    assert "no consent counts" in refused("consent", "ls", *CONFIG, code=2)
    done = run("consent", "grant", "powertrain", "--for", "1d", "--yes", *CONFIG, "--json")
    assert (done.code, json.loads(done.out)["granted"]) == (0, "powertrain")
    assert (state / "consent.damaged-1").exists()  # what it was is still there
    spoil(state / "policy" / "active.policy", kind)
    for words in (("policy", "show"), ("consent", "ls"), ("consent", "refuse", "powertrain")):
        line = refused(*words, *CONFIG, code=2 if kind in ("directory", "pipe") else 1)
        assert "active.policy" in line
    spoil(state / "spool" / "spool.db", kind)
    code = 3 if kind in ("empty", "directory", "pipe") else 75
    assert "spool.db" in refused("ledger", *CONFIG, code=code)
    assert "spool.db" in refused("ledger", "--year", "2026", *CONFIG, code=code)


@pytest.mark.parametrize("kind", ["empty", "binary", "directory", "pipe", "huge", "deep"])
def test_broken_files_of_the_region(copy: Path, refused, run, kind: str):
    good = json.loads(run("station", "policy", "ls", "--region", "cn", "--json").out)
    for name, words in (
        ("zones.key", ("station", "zones", "seal", "zones.json", "--region", "cn", "-o", "z")),
        ("policy/keys/targets-1.pem", ("station", "policy", "refresh", "--region", "cn",
                                       "--targets")),
        ("policy/metadata/timestamp.json", ("station", "policy", "export", "to", "--region", "cn")),
        ("policy/metadata/timestamp.json", ("station", "policy", "publish", "p.policy",
                                            "--region", "cn")),
    ):  # fmt: skip
        held = copy / "held"
        (copy / "cn" / name).rename(held)
        spoil(copy / "cn" / name, kind)
        done = run(*words)
        assert str(copy / "cn" / name) in refused(*words, code=done.code)
        assert done.code in (1, 2)
        if (copy / "cn" / name).is_dir():
            (copy / "cn" / name).rmdir()
        held.replace(copy / "cn" / name)
    assert json.loads(run("station", "policy", "ls", "--region", "cn", "--json").out) == good


@pytest.mark.parametrize("kind", ["empty", "binary", "directory", "missing", "pipe", "huge"])
def test_files_that_a_text_names(tmp_path: Path, refused, kind: str):
    text = EVERYTHING.replace('frames = ["*:*"]', 'signals = ["Speed"]')
    text = text.replace("\n\n[[", '\ndbc = ["odd"]\n\n[[', 1)
    (tmp_path / "p.toml").write_text(text)
    spoil(tmp_path / "odd", kind)
    assert "odd" in refused("policy", "check", tmp_path / "p.toml", code=1)
    zoned = (EXAMPLES / "cn-fleet.toml").read_text()
    zoned = zoned.replace("../../../firmware_sim", str(EXAMPLES.parents[2] / "firmware_sim"))
    zoned = zoned.replace('# zones_file = "zones.sealed"', 'zones_file = "odd"')
    (tmp_path / "z.toml").write_text(zoned)
    assert "odd" in refused("policy", "check", tmp_path / "z.toml", code=1)


def test_a_missing_file_is_no_refused_policy(here: Path, refused):
    refused("policy", "check", "nowhere.policy", code=2)
    refused("policy", "check", "gone.policy", "nowhere.toml", code=2)


# --- disks, pipes, rights, interruptions -------------------------------------------------------


def test_a_full_disk_leaves_the_old_file_and_asks_to_try_again(copy: Path, refused, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(copy)
    monkeypatch.setattr(os, "fsync", full)
    for words in (
        ("policy", "build", "p.toml"), ("station", "zones", "seal", "zones.json", "--region", "cn",
                                        "-o", "zones.sealed"),
        ("consent", "refuse", "powertrain", *CONFIG),
    ):  # fmt: skip
        line = refused(*words, code=75)
        assert "No space left on device; try again" in line
    assert changed(before, tree(copy)) <= {
        "cn-car/state/consent.lock", "cn-car/state/consent.new",  # the next change removes it
    }  # fmt: skip


PRINT = (
    ("policy", "check", "p.toml"), ("policy", "diff", "p.toml", "gone.toml"),
    ("policy", "simulate", "p.policy", "drive.log"), ("policy", "show", *CONFIG),
    ("policy", "show", "p.toml"), ("policy", "install", "drop", *CONFIG),
    ("policy", "build", "p.toml", "-o", "p2.policy"), ("consent", "ls", *CONFIG),
    ("consent", "withdraw", "--all", *CONFIG),
    ("consent", "grant", "powertrain", "--for", "1d", "--yes", *CONFIG),
    ("consent", "refuse", "powertrain", *CONFIG), ("ledger", *CONFIG),
    ("ledger", "--year", "2026", *CONFIG), ("station", "policy", "ls", "--region", "cn"),
    ("station", "policy", "publish", "p.policy", "--region", "cn"),
    ("station", "policy", "refresh", "--region", "cn"),
    ("station", "zones", "seal", "zones.json", "--region", "cn", "-o", "z2"),
    ("station", "zones", "show", "zones.sealed", "--region", "cn"),
)  # fmt: skip


def test_everything_can_be_read_by_a_program(copy: Path, run):
    for words in PRINT:
        done = run(*words, "--json")
        assert done.code == 0, done
        assert [json.loads(line) for line in done.out.splitlines()], words


@pytest.mark.parametrize("words", [PRINT[2], PRINT[3], PRINT[11], PRINT[13], ("--help",)])
def test_an_output_that_cannot_be_written(copy: Path, words: tuple[str, ...]):
    """A full disk is "try again"; a reader that has gone, as `head` does, is no failure."""
    with Path("/dev/full").open("w") as full:
        done = command(*words, stdout=full)
    assert (done.returncode, done.stderr) == (75, "error: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = command(*words, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_device_is_written_to_and_never_replaced(here: Path, tmp_path: Path, run):
    """As root, a rename would put a file in the place of /dev/stdout."""
    pipe = spoil(tmp_path / "pipe", "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run("policy", "build", "p.toml", "-o", pipe).code == 0
        assert os.read(reader, 1 << 16) == (here / "p.policy").read_bytes()
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_interrupted_in_the_middle_of_a_simulation(here: Path, tmp_path: Path):
    lines = [f"({1_700_000_000 + i // 1000}.{i % 1000:03d}000) can0 123#00" for i in range(300_000)]
    lines[1000] = "(17000"
    (tmp_path / "long.log").write_text("\n".join(lines))
    words = [*INLAND, "policy", "simulate", "p.policy", str(tmp_path / "long.log"), "--json"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as running:
        assert running.stderr is not None
        assert b"long.log:1001" in running.stderr.readline()  # it is in the middle of it
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err.strip()) == (130, b"", b"interrupted")


@pytest.fixture
def stranger(made: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as somebody whom the files do not belong to."""
    shutil.copytree(made, tmp_path / "private")
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv (util-linux) to give up its rights")
        before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
        for path in (tmp_path / "private").rglob("*"):
            os.chown(path, 12345, 12345)
    else:
        before = []

    def call(*arguments: str, mode: str) -> subprocess.CompletedProcess[str]:
        subprocess.run(["chmod", "-R", mode, str(tmp_path / "private")], check=True)
        try:
            return subprocess.run(
                [*before, *INLAND, *arguments], cwd=tmp_path / "private", text=True, timeout=60,
                capture_output=True, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        finally:
            subprocess.run(["chmod", "-R", "u+rwX", str(tmp_path / "private")], check=True)

    return call


def test_files_that_may_not_be_read_or_written(stranger):
    for words, mode in (
        (("policy", "check", "p.policy"), "a-r"), (("policy", "show", *CONFIG), "a-r"),
        (("ledger", *CONFIG), "a-r"), (("station", "policy", "ls", "--region", "cn"), "a-r"),
        (("consent", "grant", "powertrain", "--for", "1d", "--yes", *CONFIG), "a-w,a+rX"),
        (("policy", "build", "p.toml", "-o", "x.policy"), "a-w,a+rX"),
        (("station", "policy", "publish", "p.policy", "--region", "cn"), "a-w,a+rX"),
    ):  # fmt: skip
        done = stranger(*words, mode=mode)
        assert done.returncode == 2, (words, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert any(
            words in line
            for words in ("Permission denied", "not readable", "whose state folder this is")
        ), line


# --- commands that start, watch and play --------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "binary", "missing", "pipe", "huge", "deep"])
@pytest.mark.parametrize("name", ["agent.toml", "region.toml", "ledger.key", "vehicle.pem"])
def test_what_starts_or_looks_says_which_file_it_was(copy: Path, run, kind: str, name: str):
    """In a process of its own: `inland capture` looks at agent.toml before anything else."""
    shutil.rmtree(copy / "cn-car" / "state")
    spoil(copy / "cn-car" / name, kind)
    half = "uplink" if name == "vehicle.pem" else "capture"
    done = command(half, *CONFIG, stdout=subprocess.PIPE)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line.startswith("error: "), name in line) == (2, True, True), line
    words = ("doctor", "--offline", *CONFIG)
    if kind == "binary":
        told = command(*words, stdout=subprocess.PIPE)
        done = Said(told.returncode, told.stdout, told.stderr)
    else:
        done = run(*words)
    assert (done.code, done.err) == (1, "")
    assert any(name in line for line in done.out.splitlines() if line.startswith("FAIL"))


def test_a_bus_that_is_nested_too_deeply_is_no_crash_before_the_bind(copy: Path):
    """The glance at agent.toml leaves to tomllib what it does not understand."""
    (copy / "cn-car" / "agent.toml").write_text("bus = " + "[" * 100_000)
    done = command("capture", *CONFIG, stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == "error: cn-car/agent.toml: not TOML: nested too deeply\n"


@pytest.mark.parametrize("kind", ["binary", "directory", "missing", "pipe", "huge", "deep"])
def test_a_log_that_is_none_is_not_played(here: Path, tmp_path: Path, refused, kind: str):
    odd = spoil(tmp_path / "odd.log", kind)
    assert str(odd) in refused(
        "replay", odd, "--channel", "odd", "--interface", "virtual", "--speed", "max", code=1
    )


@pytest.mark.parametrize("kind", ["empty", "binary", "missing", "pipe", "huge"])
def test_an_image_with_odd_files_of_the_system(copy: Path, run, kind: str):
    """Units are ours and written anew; what the system names is left out where it is unreadable."""
    etc = copy / "image" / "etc"
    shutil.copytree("cn-car", etc / "inland", ignore=shutil.ignore_patterns("state", "run"))
    (etc / "inland").chmod(0o755)
    text = (etc / "inland" / "agent.toml").read_text()
    text = text.replace('"state"', '"/var/lib/inland"').replace('"run"', '"/run/inland"')
    (etc / "inland" / "agent.toml").write_text(text)
    python = copy / "image" / "python"
    python.touch()
    python.chmod(0o755)
    install = ("service", "install", "--root", "image", "--python", "/python")
    (etc / "resolv.conf").write_text("")
    assert run(*install).code == 0
    unit = etc / "systemd" / "system" / "inland-capture.service"
    whole = unit.read_bytes()
    spoil(etc / "resolv.conf", kind)
    spoil(unit, kind)
    done = run(*install)
    assert (done.code, done.err, unit.read_bytes()) == (0, "", whole)
    spoil(unit, kind)
    done = run("service", "uninstall", "--root", "image")
    assert (done.code, done.err, os.path.lexists(unit)) == (0, "", False)


def test_a_recipients_key_of_another_length_is_no_altered_entry(copy: Path, refused):
    spoil(copy / "cn" / "recipient.key", "empty")
    assert "has 96 bytes" in refused("station", "open", "cn", "--vehicle", "v", code=2)


@pytest.mark.parametrize("option", ["--frames", "--signals"])
def test_opened_data_goes_to_a_device_and_not_in_its_place(copy: Path, run, option: str):
    """As root: /dev/null and /dev/stdout are the same devices afterwards."""
    vehicle = json.loads(run("station", "ls", "cn", "--json").out)["vehicles"][0]["vehicle"]
    before = {name: Path(name).lstat().st_mode for name in ("/dev/null", "/dev/stdout")}
    beside = set(Path("/dev").glob("null*"))
    for name in before:
        done = command("station", "open", "cn", "--vehicle", vehicle, option, name,
                       stdout=subprocess.PIPE)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    assert {name: Path(name).lstat().st_mode for name in before} == before
    assert set(Path("/dev").glob("null*")) == beside
