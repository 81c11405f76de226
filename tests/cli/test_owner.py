"""`inland owner`, as it is typed: keys at home, people in the car."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import owner_key
from agent.cli.main import inland
from agent.cli.owner import COMMANDS
from agent.errors import ConfigError, DiskError, HatchError, OwnerError
from agent.files import write_new
from agent.owner import keyfile, register, sheet
from agent.owner.public import read_public
from tests.owner.people import ANNA, BELA, drive, enroll

PHRASE = "four words of nothing"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "_N", 2**10)


def run(*words: object, typed: str = "") -> Result:
    return CliRunner().invoke(
        inland, list(map(str, words)), input=typed, catch_exceptions=False, standalone_mode=False
    )


@pytest.fixture
def phrase(tmp_path: Path) -> Path:
    path = tmp_path / "phrase"
    path.write_text(PHRASE + "\nnot this\n")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A car of which only the state folder matters."""
    path = tmp_path / "agent.toml"
    (tmp_path / "state").mkdir()
    path.write_text(
        f'state = "{tmp_path}/state"\nrun = "{tmp_path}/run"\nregion_card = "{tmp_path}/r.toml"\n'
        f'[vehicle]\nid = "car-00000001"\ngroup = "g"\ncertificate = "{tmp_path}/c"\n'
        f'key = "{tmp_path}/k"\nledger_key = "{tmp_path}/l"\n'
    )
    return path


def test_every_subcommand_is_there_and_says_how(tmp_path: Path):
    for name in COMMANDS:
        help_ = run("owner", name, "--help").output
        assert "Example" in help_, name
    assert set(COMMANDS) <= set(run("owner", "--help").output.split())


def test_keygen_and_recover_make_the_same_key(tmp_path: Path, phrase: Path):
    """From what the terminal shows, typed in again."""
    made = run("owner", "keygen", tmp_path / "a", "--name", "Li Wei", "--passphrase-file", phrase)
    assert made.exit_code == 0
    key = keyfile.load(tmp_path / "a/owner.key", PHRASE)
    assert read_public(tmp_path / "a/owner.pub") == key.public
    assert {one.name for one in (tmp_path / "a").iterdir()} == {"owner.key", "owner.pub"}
    typed = " ".join(re.findall(r"\d+\. (\w{5})", made.output))
    run(
        "owner", "recover", tmp_path / "b", "--name", "Li Wei", "--passphrase-file", phrase,
        "--sheet", "-", typed=typed,
    )  # fmt: skip
    assert keyfile.load(tmp_path / "b/owner.key", PHRASE) == key
    assert (tmp_path / "b/owner.pub").read_bytes() == (tmp_path / "a/owner.pub").read_bytes()


def test_keys_for_programs(tmp_path: Path, phrase: Path):
    """One object with ids and paths; never the sheet, which is the key."""
    new = ("--passphrase-file", phrase, "--name", "Li Wei", "--json")
    with pytest.raises(ConfigError, match="--json shows no sheet; say --sheet FILE"):
        run("owner", "keygen", tmp_path / "a", *new)
    assert not (tmp_path / "a").exists()
    page = tmp_path / "sheet.txt"
    told = json.loads(run("owner", "keygen", tmp_path / "a", *new, "--sheet", page).output)
    key = keyfile.load(tmp_path / "a/owner.key", PHRASE)
    made = {"id": key.public.kid, "name": "Li Wei"}
    assert told == made | {
        "key": f"{tmp_path}/a/owner.key", "public": f"{tmp_path}/a/owner.pub",
        "sheets": [str(page)],
    }  # fmt: skip
    (tmp_path / "typed").write_text("\n".join(sheet.groups(key.seed)))
    told = json.loads(
        run("owner", "recover", tmp_path / "b", *new, "--sheet", tmp_path / "typed").output
    )
    assert told == made | {"key": f"{tmp_path}/b/owner.key", "public": f"{tmp_path}/b/owner.pub"}


def test_a_folder_that_cannot_be_made_is_a_wrong_use(tmp_path: Path, phrase: Path):
    with pytest.raises(ConfigError, match="Not a directory; choose another folder"):
        run("owner", "keygen", phrase / "a", "--passphrase-file", phrase)


def test_sheets_go_into_files_that_only_the_owner_reads(tmp_path: Path, phrase: Path):
    (tmp_path / "usb").mkdir()
    files = [tmp_path / "usb" / name for name in ("sheet.txt", "sheet.html")]
    made = run(
        "owner", "keygen", tmp_path / "a", "--passphrase-file", phrase,
        "--sheet", files[0], "--sheet", files[1],
    )  # fmt: skip
    key = keyfile.load(tmp_path / "a/owner.key", PHRASE)
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
        assert sheet.groups(key.seed)[7] in path.read_text()
    assert sheet.groups(key.seed)[7] not in made.output


def test_a_mistake_in_the_sheet_names_the_group_and_makes_nothing(tmp_path: Path, phrase: Path):
    groups = list(sheet.groups(bytes(32)))
    groups[8] = "ZZZZZ"
    (tmp_path / "typed").write_text("\n".join(groups))
    with pytest.raises(OwnerError, match="group 9: 'ZZZZZ' is mistyped"):
        run("owner", "recover", tmp_path / "b", "--passphrase-file", phrase,
            "--sheet", tmp_path / "typed")  # fmt: skip
    assert not (tmp_path / "b").exists()


def test_a_group_that_is_typed_wrong_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, capsys):
    """At a terminal: group by group, or a line at once."""
    groups = sheet.groups(bytes(range(32)))
    typed = iter([groups[0], "22222", " ".join(groups[1:5]), "", *groups[5:]])
    monkeypatch.setattr("click.prompt", lambda *_, **__: next(typed))
    assert owner_key._typed() == bytes(range(32))
    assert "group 2: '22222' is mistyped" in capsys.readouterr().err


def test_nothing_is_overwritten_and_nobody_is_asked_without_a_terminal(
    tmp_path: Path, phrase: Path
):
    words = ("owner", "keygen", tmp_path / "a")
    with pytest.raises(ConfigError, match=r"nobody can be asked.*--passphrase-file"):
        run(*words)
    run(*words, "--passphrase-file", phrase)
    before = (tmp_path / "a/owner.key").read_bytes()
    for other in (words, ("owner", "recover", tmp_path / "a", "--sheet", phrase)):
        with pytest.raises(ConfigError, match="never overwritten"):
            run(*other, "--passphrase-file", phrase)
    assert (tmp_path / "a/owner.key").read_bytes() == before
    for name in ("", "a\nb", "x" * 65):
        with pytest.raises(ConfigError, match="printable characters"):
            run("owner", "keygen", tmp_path / "c", "--name", name, "--passphrase-file", phrase)
    with pytest.raises(ConfigError, match=r"FILE\.txt or FILE\.html"):
        run("owner", "keygen", tmp_path / "c", "--passphrase-file", phrase, "--sheet", "x.pdf")
    assert not (tmp_path / "c").exists()


def test_whoever_has_a_key_already_is_not_asked_for_a_passphrase(
    tmp_path: Path, phrase: Path, monkeypatch: pytest.MonkeyPatch
):
    run("owner", "keygen", tmp_path / "a", "--passphrase-file", phrase)
    monkeypatch.setattr(owner_key, "_passphrase", lambda _: pytest.fail("asked"))
    with pytest.raises(ConfigError, match="never overwritten"):
        run("owner", "keygen", tmp_path / "a")


def test_a_passphrase_may_come_from_a_pipe(tmp_path: Path):
    """As <(pass show car) is one: it never touches a disk."""
    read, write = os.pipe()
    os.write(write, f"{PHRASE}\n".encode())
    os.close(write)
    run("owner", "keygen", tmp_path / "a", "--passphrase-file", f"/dev/fd/{read}")
    os.close(read)
    assert keyfile.load(tmp_path / "a/owner.key", PHRASE)


def test_a_sheet_that_cannot_be_written_leaves_no_key(tmp_path: Path, phrase: Path):
    """A key whose sheet nobody has seen would be lost with its passphrase, and nobody the wiser."""
    first, there = tmp_path / "first.txt", tmp_path / "there.html"
    there.write_text("mine")
    words = ("owner", "keygen", tmp_path / "a", "--passphrase-file", phrase, "--sheet", first)
    with pytest.raises(ConfigError, match=r"there\.html: is there already; choose another name"):
        run(*words, "--sheet", there)
    with pytest.raises(ConfigError, match=r"s\.html: cannot write: No such .* another place"):
        run(*words, "--sheet", tmp_path / "no" / "s.html")
    assert sorted(tmp_path.iterdir()) == [phrase, there]
    assert there.read_text() == "mine"


def test_a_key_that_cannot_be_written_leaves_no_sheet(
    tmp_path: Path, phrase: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, content: bytes) -> None:
        if path.name == "owner.pub":
            raise OSError(28, "No space left on device")
        write_new(path, content)

    monkeypatch.setattr("agent.files.write_new", full)
    with pytest.raises(DiskError, match=r"owner\.pub: cannot write: No space"):
        run("owner", "keygen", tmp_path / "a", "--passphrase-file", phrase,
            "--sheet", tmp_path / "s.txt")  # fmt: skip
    assert list((tmp_path / "a").iterdir()) == []
    assert not (tmp_path / "s.txt").exists()


def test_people_are_listed_driven_and_removed(config: Path):
    path = config.parent / "state" / register.FILE
    words = ("--config", config)
    assert "nobody is enrolled" in run("owner", "people", *words).output
    with pytest.raises(OwnerError, match="nobody is enrolled"):
        run("owner", "drive", "abc", *words)
    enroll(path, ANNA)
    enroll(path, BELA, register.DRIVER)
    told = run("owner", "people", *words).output.splitlines()
    assert re.fullmatch(rf"{ANNA.public.kid}  owner   A  since .* drives", told[0])
    run("owner", "drive", BELA.public.kid[:4], *words)
    told = json.loads(run("owner", "people", "--json", *words).output)
    assert told["driving"] == BELA.public.kid
    assert [one["role"] for one in told["people"]] == ["owner", "driver"]
    with pytest.raises(OwnerError, match=f"choose from: {ANNA.public.kid}, {BELA.public.kid}"):
        run("owner", "drive", "", *words)
    run("owner", "remove", BELA.public.kid, *words)
    enroll(path, BELA, register.DRIVER)
    told = json.loads(run("owner", "drive", BELA.public.kid[:4], "--json", *words).output)
    assert told == {"driving": BELA.public.kid}
    told = json.loads(run("owner", "remove", BELA.public.kid, "--json", *words).output)
    assert told == {"id": BELA.public.kid, "role": "driver", "name": BELA.public.name}
    assert "none of them drives" in run("owner", "people", *words).output
    drive(path, ANNA)
    assert "nobody who is enrolled drives" in run("owner", "drive", "--nobody", *words).output
    with pytest.raises(ConfigError, match="name somebody"):
        run("owner", "drive", *words)


def test_enrolment_without_an_agent_is_one_line(config: Path, tmp_path: Path):
    (tmp_path / "owner.pub").write_text(ANNA.public.text())
    with pytest.raises(HatchError, match=r"is `inland capture` running\?") as error:
        run("owner", "enroll", tmp_path / "owner.pub", "--config", config)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="not an owner's public key"):
        run("owner", "enroll", config, "--config", config)


def test_a_damaged_register_is_said_and_not_changed(config: Path):
    path = config.parent / "state" / register.FILE
    path.write_text("{")
    for words in (("people",), ("drive", "--nobody"), ("remove", "a")):
        with pytest.raises(ConfigError, match="the register of people is damaged"):
            run("owner", *words, "--config", config)
    assert path.read_text() == "{"
