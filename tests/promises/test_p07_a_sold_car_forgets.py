"""P7: after `inland transfer` nothing in the car opens what was stored before.

A car with an owner drives; its state folder is copied, as somebody with the disk would; it is sold.
Every file that the car then has is searched for keys, and every key is tried on the copy.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.errors import SealError
from agent.owner import custody, register, transfer
from agent.owner.keyfile import OwnerKey
from agent.pb import ledger_pb2
from agent.vault import keys
from agent.vault.opening import open_session, parse_session
from agent.vault.spool import Size, Spool
from tests.owner.people import ANNA, BELA, enroll
from tests.rig import Rig, rig, wait_for
from tests.test_enrollment import POLICY, opened
from tests.tpm import needs_tpm, software_tpm

MAX_SEARCHED = 16 << 10  # bytes of a file in which a key may stand anywhere


def sessions(state: Path) -> list[bytes]:
    """The sealed sessions of a spool: each has the secret of what follows it, wrapped."""
    found = []
    with closing(Spool(state / "spool" / "spool.db", Size(64 << 20))) as spool:
        for raw, body in spool.rows("SELECT entry, blob FROM ledger JOIN body USING (i)"):
            if ledger_pb2.Entry.FromString(raw).HasField("session"):
                found.append(body)
    return found


def kids(state: Path) -> set[bytes]:
    """Whom the sessions of a spool are wrapped to."""
    return {
        kid for body in sessions(state) for wrap in parse_session(body)[2].wrap for kid in wrap.kid
    }


def candidates(folder: Path) -> Iterator[bytes]:
    """Whatever stands in a folder's files and has the length of a private key or of a seed."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if data.startswith(b"-----BEGIN PRIVATE KEY"):
            key = load_pem_private_key(data, password=None)
            if hasattr(key, "private_bytes_raw"):
                yield key.private_bytes_raw()
        if len(data) <= MAX_SEARCHED:
            for size in (32, 96):
                yield from (data[at : at + size] for at in range(len(data) - size + 1))


def opening(state: Path, car: Path) -> list[bytes]:
    """Keys of a car that open a session of a state folder."""
    wanted = kids(state)
    found = []
    for one in candidates(car):
        private = OwnerKey(one, "x").private if len(one) == 32 else one
        kid = keys.kid(keys.public_of(private))
        if kid in wanted:
            found.append(one)
    return found


def secrets(state: Path, *people: OwnerKey) -> list[bytes]:
    """The session secrets that people's keys open: none of them may stand anywhere."""
    private = {keys.kid(one.public.recipient): one.private for one in people}
    found = []
    for body in sessions(state):
        try:
            found.append(open_session(body, private)._first)
        except SealError:
            continue
    return found


def drive(made: Rig) -> None:
    """Start capture on a log, let it keep something, end it."""
    before = made.car / "state"
    made.start("capture", "capture", "--config", str(made.config))
    wait_for(lambda: (s := made.status()) and s["frames"]["received"] == 400, 60, "all frames")
    made.kill("capture", 15)
    assert before.is_dir()


@contextmanager
def car_of_anna(folder: Path, tpm: str = "") -> Iterator[Rig]:
    """A car that has driven with Anna as its owner."""
    with rig(folder, broker=False) as made:
        made.policy(POLICY)
        if tpm:
            made.enrolled = made.enrolled.replace("[vehicle]", f'[vehicle]\ntpm = "{tpm}"')
        log = folder / "drive.log"
        log.write_text("".join(f"({1e9 + i / 100:.6f}) can0 123#{i:016X}\n" for i in range(400)))
        made.bus(name="can0", interface="log", channel=str(log), speed="max")
        enroll(made.car / "state" / register.FILE, ANNA)
        drive(made)
        yield made


def sell(made: Rig, *more: str, code: int = 0) -> str:
    return made.inland("transfer", "--yes", "--config", str(made.config), *more, code=code)


@pytest.mark.timeout(170)
def test_a_copy_from_before_opens_with_nothing_that_the_car_then_has(tmp_path: Path):
    """And still with the former owner's own key; the next owner has what comes, and only that."""
    with car_of_anna(tmp_path) as made:
        state, image = made.car / "state", tmp_path / "image"
        shutil.copytree(state, image)
        assert set(opened(image, ANNA)) == {"owner", "shared", "driver"}
        told = sell(made, "--certificate", str(tmp_path / "erased.json"))
        assert "A file counts ownerships here, not a TPM" in told
        assert opening(image, made.car) == []
        hidden = secrets(image, ANNA)
        assert len(hidden) >= 3
        for path in made.car.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert not [one for one in (*hidden, ANNA.seed, ANNA.private) if one in data], path
        assert set(opened(image, ANNA)) == {"owner", "shared", "driver"}
        after = opened(state, ANNA)
        assert set(after) <= {"shared"}  # on its way to the region
        enroll(state / register.FILE, BELA, epoch=2)
        drive(made)
        belas = opened(state, BELA)
        assert set(belas) == {"owner", "shared", "driver"}
        assert opened(state, ANNA) == after
        assert keys.kid(BELA.public.recipient) not in kids(image)
        checked = made.inland("transfer", "--check", str(tmp_path / "erased.json"))
        assert "ownership 1 ended" in checked
        assert "people 1" in checked


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_planted_key_that_the_car_keeps_is_found(tmp_path: Path):
    """A seed in a file of the car, and a private key in the middle of another: both are seen."""
    with car_of_anna(tmp_path) as made:
        shutil.copytree(made.car / "state", tmp_path / "image")
        sell(made)
        (made.car / "leftover.bin").write_bytes(b"x" * 7 + ANNA.private + b"y")
        (made.car / "state" / "old.key").write_bytes(ANNA.seed)
        assert opening(tmp_path / "image", made.car) == [ANNA.private, ANNA.seed]


@needs_tpm
@pytest.mark.timeout(170)
def test_with_a_tpm_an_older_copy_of_the_disk_starts_nothing(tmp_path: Path):
    """One line, exit 2; the present state goes on."""
    with software_tpm(tmp_path / "tpm") as tpm, car_of_anna(tmp_path, tpm) as made:
        state, image = made.car / "state", tmp_path / "image"
        shutil.copytree(state, image)
        told = sell(made)
        assert "not a TPM" not in told
        shutil.move(state, tmp_path / "now")
        shutil.copytree(image, state)
        for command in (("capture",), ("transfer", "--yes")):
            said = made.inland(*command, "--config", str(made.config), code=2)
            [line] = [one for one in said.splitlines() if "error" in one]
            assert "older than the last transfer" in line
        shutil.rmtree(state)
        shutil.move(tmp_path / "now", state)
        drive(made)
        assert custody.present(state, None if not tpm else _tpm(tpm)).number == 2


def _tpm(tcti: str):
    from agent.owner.tpm import Tpm

    return Tpm(tcti)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_running_agent_is_told_and_ends(tmp_path: Path):
    """It seals what is open, ends with 75, and the command completes the transfer."""
    with car_of_anna(tmp_path) as made:
        log = tmp_path / "long.log"
        log.write_text("".join(f"({1e9 + i / 20:.6f}) can0 123#{i:016X}\n" for i in range(3000)))
        made.bus(name="can0", interface="log", channel=str(log), speed="1.0")
        running = made.start("capture", "capture", "--config", str(made.config))
        wait_for(lambda: (s := made.status()) and s["segments"] > 5, 30, "segments")
        sell(made)
        assert running.wait(20) == 75
        assert "the car is being transferred" in (tmp_path / "capture.txt").read_text()
        assert transfer.pending(made.car / "state") is None
        made.start("capture", "capture", "--config", str(made.config))
        wait_for(lambda: (s := made.status()) and s["people"]["enrolled"] == 0, 30, "nobody")
        told = made.inland("ledger", "--last", "1000", "--config", str(made.config))
        assert "transferred: ownership 1 ended and 2 began" in told


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_command_that_is_killed_is_completed_by_the_next_start(tmp_path: Path):
    """Kill -9 as soon as the intent is there: the agent goes on before anything else."""
    with car_of_anna(tmp_path) as made:
        state = made.car / "state"
        transfer.begin(state, custody.present(state, None))
        drive(made)
        assert transfer.pending(state) is None
        assert custody.number(state) == 2
        assert set(opened(state, ANNA)) <= {"shared"}
        told = json.loads(made.inland(
            "transfer", "--check", str(transfer.certificate_of(state, 1)), "--json"
        ))  # fmt: skip
        assert (told["from_epoch"], told["to_epoch"]) == (1, 2)


@pytest.mark.timeout(120)
def test_nothing_is_erased_without_an_answer(tmp_path: Path):
    """No terminal and no --yes; a place for the certificate that is taken."""
    with car_of_anna(tmp_path) as made:
        words = ("transfer", "--config", str(made.config))
        said = made.inland(*words, code=2)
        assert "nobody can be asked here" in said
        assert "inland owner export" in said
        (tmp_path / "there.json").write_text("mine")
        said = sell(made, "--certificate", str(tmp_path / "there.json"), code=2)
        assert (tmp_path / "there.json").read_text() == "mine"
        assert set(opened(made.car / "state", ANNA)) == {"owner", "shared", "driver"}
        (tmp_path / "altered.json").write_text("{}")
        assert "not a whole certificate" in made.inland(
            "transfer", "--check", str(tmp_path / "altered.json"), code=1
        )
