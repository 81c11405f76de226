"""The people of the demo's story: what each does with the commands, at home and at the car."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.cli.demo_stage import INLAND, Stage
from agent.errors import InlandError
from agent.owner.public import read_public

COMMAND_S: Final = 120.0  # for one command
VERDICTS: Final = (0, 1, 3)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended.

    Attributes:
        code: exit code.
        output: standard output.
        words: both, for people.
    """

    code: int
    output: str
    words: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of its output, as JSON."""
        found: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        return found


def run(*words: str, expected: tuple[int, ...] = (0,)) -> Done:
    """Run `inland` with these words to its end.

    Raises:
        InlandError: it ended with another code than is expected, or not in time.
    """
    try:
        done = subprocess.run(
            [*INLAND, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InlandError(f"`inland {words[0]}` did not end in {COMMAND_S:.0f} s") from None
    return _checked(Done(done.returncode, done.stdout, done.stdout + done.stderr), words, expected)


def _checked(done: Done, words: tuple[str, ...], expected: tuple[int, ...]) -> Done:
    if done.code not in expected:
        said = done.words.strip().splitlines() or ["it said nothing"]
        name = " ".join(word for word in words[:2] if word.isalpha())
        raise InlandError(f"`inland {name}` ended with exit code {done.code}: {said[-1]}")
    return done


class Person:
    """Somebody with a key at home.

    Args:
        name: what people say.
        home: folder of this person's computer.
        stage: the car and its region.

    Attributes:
        kid: what the key is called; empty before `make_key`.
    """

    def __init__(self, name: str, home: Path, stage: Stage) -> None:
        self.name, self.home, self._stage = name, home, stage
        self.kid = ""
        self._phrase = home / "passphrase.txt"
        self._config = ("--config", str(stage.config))

    def make_key(self) -> None:
        """Make a key under a passphrase, and its recovery sheet."""
        self.home.mkdir(mode=0o700)
        self._phrase.write_text(secrets.token_urlsafe(18) + "\n")
        run(
            "owner", "keygen", str(self.home), "--name", self.name, "--passphrase-file",
            str(self._phrase), "--sheet", str(self.home / "sheet.html"),
        )  # fmt: skip
        self.kid = read_public(self.home / "owner.pub").kid

    def enroll(self) -> None:
        """Be enrolled as the owner: read the code on the car's display, and type it."""
        words = ("owner", "enroll", str(self.home / "owner.pub"), *self._config)
        shown = self._stage.car / "run" / "presence.json"
        with subprocess.Popen(
            [*INLAND, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ) as asking:  # fmt: skip
            try:
                self._stage.wait("a code", lambda: shown.exists() or asking.poll() is not None)
                code = json.loads(shown.read_text())["code"] if shown.exists() else ""
                said, _ = asking.communicate(f"{code}\n", COMMAND_S)
            except BaseException:
                asking.kill()
                raise
        _checked(Done(asking.returncode, said, said), words, (0,))
        self._stage.wait("the owner", self._is_known)

    def _is_known(self) -> bool:
        """Whether the running agent seals to this person by now."""
        status = self._stage.status()
        return status is not None and status["people"]["driving"] == self.kid

    def look_on(self, signal: str) -> None:
        """Begin to look at a signal, live."""
        self._stage.processes.start("live", [
            *INLAND, "owner", "live", "--socket", str(self._stage.car / "run" / "live.sock"),
            "--key", str(self.home / "owner.key"), "--passphrase-file", str(self._phrase),
            "--signal", signal, "--json",
        ])  # fmt: skip
        self._stage.wait("the live stream", self._said_live)

    def sees(self, count: int) -> list[tuple[dict[str, Any], float]]:
        """Return the next samples that come, and how old each is at most, in seconds; then go."""
        found: list[tuple[dict[str, Any], float]] = []
        known = len(self._samples())

        def more() -> bool:
            at_s, fresh = time.time(), self._samples()[known + len(found) :]
            found.extend((one, at_s - one["unix_s"]) for one in fresh)
            return len(found) >= count

        self._stage.wait("what is seen live", more)
        self._stage.processes.stop("live")
        return found[:count]

    def _samples(self) -> list[dict[str, Any]]:
        lines = self._said_live().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith('{"utc"')]

    def _said_live(self) -> str:
        return self._stage.processes.output("live").read_text("utf-8")

    def export(self) -> dict[str, Any]:
        """Take a copy of what the car has kept, on a stick."""
        stick = self.home / "stick"
        stick.mkdir()
        return run("owner", "export", "-o", str(stick), *self._config, "--json").json

    def open(self, bundle: Path, folder: Path) -> tuple[int, dict[str, Any]]:
        """Open what the rules kept, without the recorder's copies; return exit code and counts."""
        done = self._at_home("open", bundle, folder, "--lane", "routine", "--json")
        return done.code, done.json

    def told(self, bundle: Path, folder: Path) -> str:
        """Open a bundle, all of it; return what the command says."""
        return self._at_home("open", bundle, folder).words

    def report(self, bundle: Path, page: Path) -> tuple[int, dict[str, Any]]:
        """Make the page of a bundle; return the exit code and what was found."""
        done = self._at_home("report", bundle, page, "--json")
        return done.code, done.json

    def request(self, vehicle: str, purpose: str) -> Path:
        """Ask the region for what it has of a car; return the bundle that it answers with."""
        ask, answers = self.home / "ask.json", self.home / "answers"
        answers.mkdir()
        run(
            "owner", "request", "--region", "cn", "--vehicle", vehicle, "--purpose", purpose,
            "--key", str(self.home / "owner.key"), "--passphrase-file", str(self._phrase),
            "-o", str(ask),
        )  # fmt: skip
        region = str(self._stage.region)
        done = run("station", "request", region, str(ask), "-o", str(answers), "--json")
        return Path(done.json["bundle"])

    def ledger(self, bundle: Path) -> dict[str, Any]:
        """Read who got what of the car, from a bundle that the region answered with."""
        return run("owner", "ledger", str(bundle), "--json").json

    def _at_home(self, what: str, bundle: Path, output: Path, *more: str) -> Done:
        return run(
            "owner", what, str(bundle), "--key", str(self.home / "owner.key"),
            "--passphrase-file", str(self._phrase), "-o", str(output),
            "--card", str(self._stage.region / "region.toml"), *more, expected=VERDICTS,
        )  # fmt: skip
