"""Which ownership it is: by a file, and by a TPM that cannot be set back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.processes import free_port
from agent.errors import ConfigError, TpmError
from agent.owner import custody, tpm
from agent.owner.custody import Epoch, advance, present
from agent.owner.tpm import Tpm
from tests.tpm import needs_tpm, software_tpm


class Counter:
    """A TPM's counter: whatever happens to the disk, it only rises."""

    def __init__(self) -> None:
        self.value = 0
        self.dies_before = self.dies_after = False

    def found(self) -> int:
        self.value = self.value or 41
        return self.value

    def read(self) -> int:
        return self.value

    def increment(self) -> int:
        if self.dies_before:
            raise TpmError("cut")
        self.value += 1
        if self.dies_after:
            raise TpmError("cut")
        return self.value


@pytest.fixture
def counter() -> Tpm:
    return Counter()  # type: ignore[return-value]


def test_a_file_counts_from_one(tmp_path: Path):
    assert present(tmp_path, None) == Epoch(1, "file", 0)
    assert advance(tmp_path, None, Epoch(1)) == Epoch(2, "file", 0)
    assert advance(tmp_path, None, Epoch(1)) == Epoch(2, "file", 0)  # done again
    assert present(tmp_path, None).number == custody.number(tmp_path) == 2


def test_a_tpm_counts_beside_the_file(tmp_path: Path, counter: Tpm):
    assert present(tmp_path, counter) == Epoch(1, "tpm", 41)
    assert advance(tmp_path, counter, Epoch(1, "tpm", 41)) == Epoch(2, "tpm", 42)
    assert advance(tmp_path, counter, Epoch(1, "tpm", 41)) == Epoch(2, "tpm", 42)
    assert present(tmp_path, counter) == Epoch(2, "tpm", 42)


def test_a_car_that_gets_a_tpm_goes_on_in_its_ownership(tmp_path: Path, counter: Tpm):
    present(tmp_path, None)
    advance(tmp_path, None, Epoch(1))
    assert present(tmp_path, counter) == Epoch(2, "tpm", 41)
    with pytest.raises(ConfigError, match="not configured"):
        present(tmp_path, None)


def test_an_older_state_is_refused(tmp_path: Path, counter: Tpm):
    """The image from before the transfer, put back; and a disk in another computer."""
    present(tmp_path / "now", counter)
    shutil.copytree(tmp_path / "now", tmp_path / "image")
    advance(tmp_path / "now", counter, Epoch(1, "tpm", 41))
    with pytest.raises(ConfigError, match="older than the last transfer") as error:
        present(tmp_path / "image", counter)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    other: Tpm = Counter()  # type: ignore[assignment]
    other.found()
    with pytest.raises(ConfigError, match="of another computer"):
        present(tmp_path / "now", other)


def test_planted_check_that_believes_the_file_takes_an_older_state(
    tmp_path: Path, counter: Tpm, monkeypatch: pytest.MonkeyPatch
):
    present(tmp_path / "now", counter)
    shutil.copytree(tmp_path / "now", tmp_path / "image")
    advance(tmp_path / "now", counter, Epoch(1, "tpm", 41))
    monkeypatch.setattr(Counter, "read", lambda self: 41)
    assert present(tmp_path / "image", counter) == Epoch(1, "tpm", 41)


def test_an_older_state_with_its_intent_is_no_way_around(tmp_path: Path, counter: Tpm):
    """Two transfers later, the intent of the first one begins nothing."""
    state = tmp_path
    before = present(state, counter)
    second = advance(state, counter, before)
    advance(state, counter, second)
    custody._write(state / custody.FILE, before)  # the image
    with pytest.raises(ConfigError, match="older than the last transfer"):
        advance(state, counter, before)


@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
def test_a_cut_around_the_counter_ends_in_the_next_ownership(
    tmp_path: Path, counter: Tpm, when: str
):
    before = present(tmp_path, counter)
    setattr(counter, when, True)
    with pytest.raises(TpmError):
        advance(tmp_path, counter, before)
    setattr(counter, when, False)
    assert advance(tmp_path, counter, before) == Epoch(2, "tpm", 42)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "[" * 9000, '{"format": 1}',
     '{"format": 1, "epoch": 0, "custody": "file", "counter": 0}',
     '{"format": 1, "epoch": 1, "custody": "file", "counter": 4}',
     '{"format": 1, "epoch": 1, "custody": "tpm", "counter": 0}',
     '{"format": 2, "epoch": 1, "custody": "file", "counter": 0}'],
)  # fmt: skip
def test_a_damaged_number_starts_nothing(tmp_path: Path, content: str):
    (tmp_path / custody.FILE).write_text(content)
    with pytest.raises(ConfigError, match="is damaged"):
        present(tmp_path, None)


@pytest.fixture
def software(tmp_path: Path) -> Iterator[str]:
    with software_tpm(tmp_path / "tpm") as reached:
        yield reached


@needs_tpm
def test_a_real_counter_only_rises(software: str):
    """Also after its index was undefined and defined again."""
    one = Tpm(software)
    first = one.found()
    assert one.found() == one.read() == first
    assert one.increment() == first + 1
    subprocess.run(["tpm2_nvundefine", "-T", software, "-C", "o", tpm.INDEX], check=True,
                   capture_output=True)  # fmt: skip
    with pytest.raises(TpmError):
        one.read()
    assert one.found() > first + 1


@needs_tpm
def test_a_state_by_a_real_tpm_is_refused_when_it_is_older(tmp_path: Path, software: str):
    one = Tpm(software)
    before = present(tmp_path / "now", one)
    shutil.copytree(tmp_path / "now", tmp_path / "image")
    assert advance(tmp_path / "now", one, before).counter == before.counter + 1
    assert present(tmp_path / "now", one).number == 2
    with pytest.raises(ConfigError, match="older than the last transfer"):
        present(tmp_path / "image", one)


@needs_tpm
def test_a_tpm_that_is_not_there_is_one_line_and_starts_nothing(tmp_path: Path):
    with pytest.raises(TpmError, match="is the TPM there") as error:
        present(tmp_path, Tpm(f"swtpm:host=127.0.0.1,port={free_port()}"))
    assert error.value.exit_code == 75
    assert "\n" not in str(error.value)
    assert not (tmp_path / custody.FILE).exists()


def test_tools_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(ConfigError, match="apt-get install tpm2-tools"):
        Tpm("device:/dev/tpmrm0").found()
