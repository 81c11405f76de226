"""verify.py is the verifier of this package in one file, and runs where nothing is installed."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.evidence import single_file, verifier
from agent.evidence.single_file import verify_py
from tests.evidence import altering
from tests.evidence.making import WITNESS, drive, make, new_car, verdict


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bundle") / "a.inland", drive(new_car(), 8))


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """As a stranger does: isolated, so neither this package nor its libraries can be found."""
    return subprocess.run(
        [sys.executable, "-I", "-S", folder / "verify.py", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_says_what_inland_verify_says(bundle: Path):
    done = run(bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == list(verifier.lines(verifier.verify(bundle)))


def test_it_finds_what_is_altered_and_missing(bundle: Path, tmp_path: Path):
    for number, (code, word) in enumerate(((1, "ALTERED"), (3, "cannot be decided"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        for path in bundle.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        if code == 1:
            altering.replace_entry(folder, 5, lambda entry: setattr(entry.at, "unix_ns", 5))
        else:
            altering.change(folder, "bodies", lambda rows: rows[:-1])
        done = run(bundle, folder)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (code, word)
        assert done.stdout.splitlines() == list(verifier.lines(verifier.verify(folder)))


def test_it_takes_a_card(bundle: Path, tmp_path: Path):
    card = tmp_path / "region.toml"
    card.write_text(f"cosign_keys = [{json.dumps(WITNESS.text())}]\n")
    done = run(bundle, bundle, "--card", card)
    assert (done.returncode, "compare its SHA-256" in done.stdout) == (0, False)
    card.write_text("cosign_keys = []\n")
    done = run(bundle, "--card", card)
    assert (done.returncode, "no co-signing key" in done.stderr) == (2, True)


@pytest.mark.parametrize("words", [("nothing-there",), (".", ".")])
def test_wrong_use_is_said(bundle: Path, words: tuple[str, ...]):
    done = run(bundle, *words)
    assert (done.returncode, done.stderr[:6]) == (2, "usage:")


def test_it_is_the_files_as_they_are():
    """Byte for byte but for their imports: who has read them has read it."""
    text = verify_py().decode()
    for name in single_file.PARTS:
        source = Path(single_file.__file__).with_name(name).read_text()
        body = source[source.rindex("\nimport ") if "from agent" not in source else
                      source.rindex("from agent.") :]  # fmt: skip
        body = body[body.index("\n\n") :].strip()
        assert body in text
    assert text.count("from __future__") == 1
    assert "agent" not in {name.split(".")[0] for name in imported(text)}
    assert verify_py() == verify_py()


def imported(text: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names


def test_it_is_of_the_standard_library_and_of_python_3_9():
    """By its grammar, and by the names that came later and that one would reach for."""
    text = verify_py().decode()
    ast.parse(text, feature_version=(3, 9))
    assert {name.split(".")[0] for name in imported(text)} <= sys.stdlib_module_names
    assert "tomllib" not in imported(text)
    for later in ("strict=True", "file_digest", "datetime.UTC", "slots=True", "int.bit_count",
                  "itertools.pairwise", "Self"):  # fmt: skip
        assert later not in text
    for node in ast.walk(ast.parse(text)):  # `int | None` outside of annotations came with 3.10
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            assert not isinstance(node.args[1], ast.BinOp)


def test_a_bundle_carries_it(bundle: Path):
    assert (bundle / "verify.py").read_bytes() == verify_py()
    assert verdict(bundle) == (0, "")


def test_it_runs_on_every_python_that_is_here(bundle: Path):
    """On 3.9 as well, where there is one; whoever checks evidence has what their computer has."""
    names = [sys.executable, *(f"python3.{minor}" for minor in (9, 10, 12, 13))]
    told = run(bundle).stdout
    for python in filter(None, map(shutil.which, names)):
        if subprocess.run([python, "-V"], capture_output=True, check=False).returncode:
            continue  # a name without an installation behind it
        done = subprocess.run(
            [python, "-I", "-S", bundle / "verify.py"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr, done.stdout) == (0, "", told), python
