"""`inland doctor`: what it says of a machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import doctor
from agent.owner import custody
from agent.owner.tpm import Tpm
from tests.service.conftest import bundle
from tests.tpm import needs_tpm, software_tpm

__all__ = ["bundle"]

MOUNTS = """\
/dev/root / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 /run/media\\040one ext4 rw 0 0
tmpfs /home ext4 rw 0 0
overlay /home tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/run/inland", "tmpfs"), ("/run", "tmpfs"), ("/runner", "ext4"), ("/", "ext4"),
        ("/run/media one/inland", "ext4"), ("/home/me/run", "tmpfs"),
    ],
)  # fmt: skip
def test_a_place_is_on_the_file_system_that_is_seen_there(place: str, kind: str):
    assert doctor.file_system(Path(place), MOUNTS) == kind
    assert doctor.file_system(Path(place), "") == "unknown"


@pytest.mark.parametrize(("kind", "verdict"), [("tmpfs", "ok"), ("ext4", "warn")])
def test_a_run_folder_on_a_disk_is_told(tmp_path: Path, monkeypatch, kind: str, verdict: str):
    monkeypatch.setattr(doctor, "file_system", lambda place, mounts: kind)
    (tmp_path / "agent.toml").write_text(
        'state = "state"\nrun = "run"\nregion_card = "region.toml"\n[vehicle]\n'
        'id = "car-00000001"\ncertificate = "c.pem"\nkey = "k"\nledger_key = "l"\n'
    )
    result = CliRunner().invoke(
        doctor.command, ["--config", str(tmp_path / "agent.toml"), "--offline", "--json"]
    )
    told = {one["what"]: one for one in json.loads(result.output)["findings"]}
    assert told["run"]["verdict"] == verdict
    assert str(tmp_path / "run") in told["run"]["text"]


@pytest.fixture
def car(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "car")


def told(car: Path, what: str) -> tuple[str, str]:
    """Verdict and text of one finding about a car."""
    result = CliRunner().invoke(
        doctor.command, ["--config", str(car / "agent.toml"), "--offline", "--json"]
    )
    (found,) = [one for one in json.loads(result.stdout)["findings"] if one["what"] == what]
    assert result.exit_code == (found["verdict"] == "fail")
    return found["verdict"], found["text"]


def test_keys_that_are_keys_and_belong_together(car: Path):
    verdict, text = told(car, "keys")
    assert (verdict, "certificate good for" in text) == ("ok", True)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("vehicle.key", b"no key\n", "the vehicle's certificate or key cannot be used"),
        ("vehicle.key", "ledger.key", "the vehicle's certificate or key cannot be used"),
        ("ledger.key", "vehicle.key", "not an Ed25519 private key"),
        ("zones.key", bytes(31), "zones.key: a zones key has 32 bytes, not 31; take zones.key"),
        ("zones.key", b"", "a zones key has 32 bytes, not 0"),
    ],
)
def test_a_key_that_is_none_is_told(car: Path, name: str, content: bytes | str, complaint: str):
    data = (car / content).read_bytes() if isinstance(content, str) else content
    (car / name).write_bytes(data)
    verdict, text = told(car, "keys")
    assert (verdict, complaint in text) == ("fail", True), text


def test_a_file_that_counts_ownerships_is_told_with_its_limit(car: Path, monkeypatch):
    monkeypatch.setattr(doctor, "TPM_DEVICE", car / "no tpm")
    text = "ownership 1, by a file: an older copy of the disk is not noticed"
    assert told(car, "custody") == ("ok", text)
    assert not (car / "state").exists()  # nothing is begun by looking
    monkeypatch.setattr(doctor, "TPM_DEVICE", car)
    verdict, more = told(car, "custody")
    assert (verdict, more) == (
        "warn",
        f'{text}, and this computer has a TPM; write tpm = "device:{car}" in [vehicle]',
    )


def test_a_later_ownership_and_a_damaged_one_are_told(car: Path, monkeypatch):
    monkeypatch.setattr(doctor, "TPM_DEVICE", car / "no tpm")
    (car / "state").mkdir()
    custody.advance(car / "state", None, custody.Epoch(4))
    assert told(car, "custody")[1].startswith("ownership 5, by a file")
    (car / "state" / custody.FILE).write_text("{}")
    verdict, text = told(car, "custody")
    assert verdict == "fail"
    assert f"{car}/state/epoch.json: the number of the ownership is damaged; put the" in text


@needs_tpm
def test_a_tpm_that_counts_and_an_older_copy_are_told(car: Path, tmp_path: Path):
    with software_tpm(tmp_path / "tpm") as reached:
        toml = car / "agent.toml"
        text = toml.read_text("utf-8").replace("[vehicle]", f'[vehicle]\ntpm = "{reached}"')
        toml.write_text(text)
        assert told(car, "custody") == (
            "ok",
            "ownership 1, by the TPM from the next start on: an older copy of the disk is refused",
        )
        (car / "state").mkdir()
        keeper = Tpm(reached)
        first = custody.present(car / "state", keeper)
        refused = "ownership 1, by the TPM: an older copy of the disk is refused"
        assert told(car, "custody") == ("ok", refused)
        copy = (car / "state" / custody.FILE).read_bytes()
        custody.advance(car / "state", keeper, first)
        (car / "state" / custody.FILE).write_bytes(copy)
        verdict, text = told(car, "custody")
        assert (verdict, "older than the last transfer" in text) == ("fail", True)
    assert told(car, "custody")[0] == "fail"  # and one that does not answer
