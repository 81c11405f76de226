"""`inland doctor`: what it says of a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import doctor

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
