"""`inland demo --story brake`: a car with an owner, from the key to the sale, on real parts.

Whatever a person does is done with the command that the person would type, as a process of its
own; only the code that the car shows is read from its display by us. Each step says what was found,
and one that did not end as it has to is named in the verdict: the story goes on, so that one run
shows all that is wrong.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, Final, TypeVar

from agent.cli.common import print_json
from agent.cli.demo_order import (
    NAME,
    REFERENCE,
    Authority,
    forge,
    middle_of,
    openings_of,
    stamps_of,
)
from agent.cli.demo_people import Person, run
from agent.cli.demo_stage import Stage, fleet_and_owner
from agent.cli.demo_story_view import told
from agent.cli.demo_view import View
from agent.evidence.bundle import varint
from agent.evidence.wire import read, records
from agent.station.broker import Kind, start_broker

T = TypeVar("T")
NEXT_DRIVE_S: Final = 4.0  # of the next owner
LIVE: Final = "VehicleSpeed"
LIVE_S: Final = 1.0  # old at most
CAPTURE_TOLD: Final = 75  # how a running agent ends when the car is sold


def run_story(
    folder: Path, seconds: float, seed: int, *, broker: Kind, stop: Event, as_json: bool, kept: bool
) -> bool:
    """Tell the story in a folder; return whether every step ended as it has to.

    Args:
        folder: for everything.
        seconds: that the owner drives.
        seed: source of the car's randomness.
        broker: which.
        stop: is set when the demo is to end.
        as_json: print the numbers, for programs.
        kept: the folder stays when the demo is over.
    """
    result = Story(folder, seconds, seed, View(quiet=as_json), stop).run(broker)
    if as_json:
        print_json(result)
    else:
        told(result, kept=kept)
    return bool(result["ok"])


class Story:
    """One run in one folder.

    Args:
        folder: for everything.
        seconds: that the owner drives.
        seed: source of the car's randomness.
        view: is told every step.
        stop: is set when the demo is to end.
    """

    def __init__(self, folder: Path, seconds: float, seed: int, view: View, stop: Event) -> None:
        self._folder, self._seconds, self._seed, self._view = folder, seconds, seed, view
        self._stage = Stage(folder, view, stop)
        self._li = Person("Li Wei", folder / "li-wei", self._stage)
        self._mei = Person("Mei Zhang", folder / "mei-zhang", self._stage)
        self._result: dict[str, Any] = {"seconds": {}, "verdicts": {}}
        self._wrong: list[str] = []

    @property
    def steps(self) -> tuple[Callable[[], None], ...]:
        """What happens, in order."""
        return (
            self._enroll, self._drive, self._export, self._verify, self._open, self._report,
            self._refuse_altered, self._order, self._told,
            self._sell, self._enroll_next, self._drive_next, self._next_opens, self._former_opens,
        )  # fmt: skip

    def run(self, broker: Kind) -> dict[str, Any]:
        """Do all of it; return what was found.

        Raises:
            InlandError: a part that did not start or that ended too early; says which.
        """
        began_s = time.monotonic()
        stage = self._stage
        stage.make(fleet_and_owner(), told="cn-fleet, and every frame of can0 for region and owner")
        with start_broker(stage.region, kind=broker) as started:
            self._view.step(f"broker     {started.describe()}")
            try:
                stage.start_station()
                stage.start_capture()
                stage.start_uplink()
                stage.wait("the agent", stage.status)
                self._view.step("agent      capture waits for the car; uplink has the network\n")
                for step in self.steps:
                    stage.pause(0)
                    step()
            finally:
                stage.processes.stop()
        self._result["seconds"]["all"] = round(time.monotonic() - began_s, 1)
        why = "; ".join(self._wrong)
        return {"ok": not why, "why": why, **self._result, "broker": started.describe()}

    # --------------------------------------------------------------------------- the first owner

    def _enroll(self) -> None:
        self._li.make_key()
        self._say("key", f"Li Wei has one at home, under a passphrase: {self._li.kid}")
        self._li.enroll()
        self._say("enroll", "the car shows a code, Li Wei types it: owner")

    def _drive(self) -> None:
        sent = self._folder / "sent.log"
        self._li.look_on(LIVE)
        self._stage.start_car(sent, self._seconds, self._seed)
        self._see()
        status = self._stage.watch(self._seconds)
        self._sent = _frames(sent)
        self._result["frames"] = {"sent": len(self._sent), "kept": status["frames"]["kept"]}
        if not self._sent or status["frames"]["kept"] != len(self._sent):
            self._fail(f"{len(self._sent)} frames were sent, {status['frames']['kept']} kept")
        if self._stage.car_said()["host_frames"]:
            self._fail("the agent sent frames on the bus")

    def _see(self) -> None:
        """The owner sees what is kept while it is kept."""
        seen = self._li.sees(3)
        for one, age_s in seen:
            self._say("live", f"{one['signal']} {one['value']} {one['unit']}, {age_s:.2f} s old")
        self._result["live_age_s"] = round(max(age_s for _, age_s in seen), 3)
        if self._result["live_age_s"] > LIVE_S:
            self._fail(f"what the owner sees live is {self._result['live_age_s']} s old")

    def _export(self) -> None:
        done = self._timed("export", self._li.export)
        self._bundle = Path(done["bundle"])
        self._result["bundle"] = str(self._bundle)
        self._result["verdicts"]["export"] = done["verdict"]
        if not self._stage.status():
            self._fail("the agent did not run during the export")
        self._say("export", f"{self._bundle.name}, while the agent runs ({self._took('export')})")

    def _verify(self) -> None:
        card = self._stage.region / "region.toml"
        code, checked = self._timed("verify", lambda: self._verdict(self._bundle, card))
        self._result["verdicts"]["verify"] = code
        if code:
            self._fail(f"the bundle is not intact: {_first(checked)}")
        words = "intact, and co-signed by the region" if not code else f"exit code {code}"
        self._say("verify", f"{words} ({self._took('verify')})")

    def _open(self) -> None:
        folder = self._li.home / "opened"
        code, opened = self._timed("open", lambda: self._li.open(self._bundle, folder))
        frames = _frames(folder / "frames.log")
        self._result["verdicts"]["open"] = code
        self._opened = frames
        self._result["frames"]["opened"] = len(frames)
        self._result |= {"samples_opened": opened["samples"], "opened": str(folder)}
        if code or opened["problems"]:
            self._fail(f"the bundle does not open as it has to: exit code {code}")
        if frames != self._sent:
            lost = sum((Counter(self._sent) - Counter(frames)).values())
            self._fail(f"{lost} frames are missing at home, or they are not in order")
        self._say("open", f"at home, with the passphrase: {len(frames):,} frames, "
                          f"{opened['samples']:,} samples ({self._took('open')})")  # fmt: skip

    def _report(self) -> None:
        page = self._li.home / "report.html"
        code, made = self._timed("report", lambda: self._li.report(self._bundle, page))
        self._result["verdicts"]["report"] = code
        self._result |= {"page": str(page), "incidents": made["incidents"]}
        if code or not page.read_text("utf-8").startswith("<!"):
            self._fail("the page was not written")
        if not made["incidents"]:
            self._fail("the page shows no incident")
        self._say("report", f"{page} ({self._took('report')})")

    def _refuse_altered(self) -> None:
        copy = self._folder / "altered.inland"
        shutil.copytree(self._bundle, copy)
        index = alter(copy)
        code, checked = self._verdict(copy)
        named = [one for one in checked["altered"] if f"entry {index}:" in one]
        self._result["verdicts"]["altered"] = code
        self._result["altered_entry"] = index
        if code != 1 or not named:
            self._fail(f"one altered bit in entry {index} is not found: exit code {code}")
        self._say("altered", f"one bit of a copy: refused, {named[0] if named else 'NOT named'}")

    def _order(self) -> None:
        """The region opens the window of an authority's order, and not a frame more."""
        authority = Authority(self._folder, self._stage.region)
        authority.be_trusted()
        frames = stamps_of(self._li.home / "opened" / "frames.log")
        from_ns, to_ns = middle_of(frames)
        order = authority.order(self._stage.vehicle, from_ns, to_ns)
        refused, _ = authority.served(forge(order), forged=True)
        code, log = authority.served(order)
        wanted = [frame for at, frame in frames if from_ns <= at <= to_ns]
        found = _frames(log) if log.exists() else []
        self._result["verdicts"] |= {"order": code, "forged_order": refused}
        self._result["frames"]["ordered"] = len(found)
        if code or found != wanted or not wanted:
            self._fail(f"{len(wanted)} frames were ordered, {len(found)} opened: exit code {code}")
        if not refused:
            self._fail("a forged order was served")
        self._say("order", f"of an authority: its window, {len(found):,} frames; forged: refused")

    def _told(self) -> None:
        """The owner asks the region, which answers unopened, and says who got what."""
        bundle = self._li.request(self._stage.vehicle, "who got what of my car")
        code, _ = self._verdict(bundle, self._stage.region / "region.toml")
        told = [one for one in openings_of(self._li, bundle) if one.get("reason") == REFERENCE]
        self._result["verdicts"]["answer"] = code
        self._result["told_of_orders"] = len(told)
        if len(told) != 1:
            self._fail(f"the owner is told of {len(told)} orders, where one was served")
        self._say("told", f"the region's answer names {NAME}, {REFERENCE}\n")

    # ---------------------------------------------------------------------- the sale, and after it

    def _sell(self) -> None:
        """Sell it. The incident is held, and taken along: --even-held says that it may go."""
        place = self._folder / "erased.json"
        done = run(
            "transfer", "--yes", "--even-held", "--config", str(self._stage.config),
            "--certificate", str(place), "--json",
        ).json  # fmt: skip
        ended = self._stage.processes.wait("capture")
        if ended != CAPTURE_TOLD:
            self._fail(f"the running agent ended with {ended} at the sale")
        bodies = sum(one["bodies"] for one in done["erased"])
        self._result["erased"] = {"contents": bodies, "certificate": str(place)}
        self._say("transfer", f"{bodies:,} contents erased, with a certificate signed by the car")
        self._stage.start_capture()  # as a service manager does
        self._stage.wait("the agent", self._stage.status)

    def _enroll_next(self) -> None:
        self._mei.make_key()
        self._mei.enroll()
        self._say("enroll", f"Mei Zhang, the next owner, with a key of her own: {self._mei.kid}")

    def _drive_next(self) -> None:
        sent = self._folder / "sent-next.log"
        self._stage.processes.stop("car")
        self._stage.start_car(sent, NEXT_DRIVE_S, self._seed + 1)
        self._stage.watch(NEXT_DRIVE_S)
        self._sent_next = _frames(sent)

    def _next_opens(self) -> None:
        """Mei Zhang opens what is hers, and tries what was before: in both bundles."""
        of_before, _ = self._count(self._mei, self._bundle, "before")
        told = self._mei.told(self._bundle, self._mei.home / "before-all")
        if "opens nothing here" not in told:
            self._fail("the next owner is not told that her key opens nothing of before")
        self._bundle_next = Path(self._mei.export()["bundle"])
        own, frames = self._count(self._mei, self._bundle_next, "own")
        self._result["next_owner"] = {"opened_of_before": of_before, "opened_of_her_own": own}
        if of_before:
            self._fail(f"the next owner opens {of_before} frames and samples of before")
        if frames != self._sent_next or not frames:
            self._fail("the next owner's bundle does not hold exactly the frames of her own drive")
        self._say("next", f"Mei Zhang opens {len(frames):,} frames of her own drive, and "
                          f"{of_before:,} of before")  # fmt: skip

    def _former_opens(self) -> None:
        """Li Wei opens the bundle from before as ever, and nothing of what came after."""
        still, frames = self._count(self._li, self._bundle, "still")
        after, _ = self._count(self._li, self._bundle_next, "after")
        self._result["former_owner"] = {"still_opens": still, "opened_of_after": after}
        if frames != self._opened or not frames:
            self._fail("the former owner cannot open any more what was opened before the sale")
        if after:
            self._fail(f"the former owner opens {after} frames and samples of after the sale")
        self._say("former", f"Li Wei still opens {len(frames):,} frames, and {after:,} of after")

    # -------------------------------------------------------------------------------------- helpers

    def _count(self, who: Person, bundle: Path, name: str) -> tuple[int, list[str]]:
        """Return how many frames and samples somebody's key opens, and the frames."""
        folder = who.home / name
        code, opened = who.open(bundle, folder)
        if code:
            self._fail(f"{who.name} opening {bundle.name}: exit code {code}")
        log = folder / "frames.log"
        return opened["frames"] + opened["samples"], _frames(log) if log.exists() else []

    def _verdict(self, bundle: Path, card: Path | None = None) -> tuple[int, dict[str, Any]]:
        by = ("--card", str(card)) if card else ()
        done = run("verify", str(bundle), *by, "--json", expected=(0, 1, 3))
        return done.code, done.json

    def _timed(self, what: str, work: Callable[[], T]) -> T:
        began_s = time.monotonic()
        found = work()
        self._result["seconds"][what] = round(time.monotonic() - began_s, 2)
        return found

    def _took(self, what: str) -> str:
        return f"{self._result['seconds'][what]:.1f} s"

    def _say(self, word: str, text: str) -> None:
        self._view.step(f"{word:<10} {text}")

    def _fail(self, why: str) -> None:
        self._wrong.append(why)
        self._view.step(f"{'WRONG':<10} {why}")


def alter(bundle: Path) -> int:
    """Turn one bit of a segment's sealed body in a bundle; return the index of its entry."""
    path = max(bundle.glob("*.bodies"), key=lambda one: one.stat().st_size)
    rows = [(index, bytes(data)) for index, _, data in records(read(path), 0)]
    at = max(range(len(rows)), key=lambda one: len(rows[one][1]))
    index, data = rows[at]
    rows[at] = index, data[:-1] + bytes([data[-1] ^ 1])
    path.write_bytes(b"".join(varint(i) + varint(len(d)) + d for i, d in rows))
    return index


def _frames(log: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in log.read_text("ascii").splitlines()]


def _first(checked: dict[str, Any]) -> str:
    return next(iter(checked["altered"] + checked["missing"]), "nothing is named")
