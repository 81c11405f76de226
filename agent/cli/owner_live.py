"""`inland owner live`: what the car keeps for a person, as it keeps it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli.common import LANES, json_option, lane_numbers, print_json, printable
from agent.cli.private_key import key_options, load_keys
from agent.errors import ConfigError, HatchError

if TYPE_CHECKING:
    from agent.owner.keyfile import OwnerKey
    from agent.owner.live import Part, Rule, Stream
    from agent.vault.segment import Payload

SOCKET: Final = "/run/inland/live.sock"


@click.command()
@click.option(
    "--socket", "path", type=click.Path(path_type=Path), default=SOCKET, show_default=True,
    help="The car's live socket, or where ssh brings it.",
)  # fmt: skip
@key_options("The private key of whoever looks.")
@click.option(
    "--signal", "names", multiple=True, metavar="NAME",
    help="Show it alone. May be given several times.",
)  # fmt: skip
@click.option(
    "--lane", "lanes", multiple=True, type=click.Choice(LANES),
    help="Of it alone: what a rule and the recorder both keep is on two. Repeat for more.",
)  # fmt: skip
@click.option("--frames", is_flag=True, help="Raw frames alone, as lines of candump.")
@click.option("--tz", help="Zone of local time, e.g. Asia/Shanghai; the machine's if not.")
@json_option
def live(
    *, path: Path, key_file: Path, passphrase_file: Path | None, names: tuple[str, ...],
    lanes: tuple[str, ...], frames: bool, tz: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Show what the car keeps for you, as it keeps it, until Ctrl-C.

    It is what a bundle of this time will hold for your key: the same samples with the same stamps,
    some tenths of a second old. A line is a change; with --json it is a sample or an event, in the
    form of `owner open`. The car sends it sealed to it: nobody on the way can read it. The key
    stays on your own computer; ssh brings the car's socket there.

    \b
    Examples, through ssh, and on a bench:
      ssh -N -L ./car.sock:/run/inland/live.sock CAR &
      inland owner live --socket ./car.sock --key ~/inland/owner.key
      inland owner live --socket ./car.sock --key ~/inland/owner.key --signal DI_vehicleSpeed --json
      inland owner live --socket car/run/live.sock --key ~/inland/owner.key --frames
    """
    from agent.owner.zone import zone_of

    if frames and (names or as_json):
        raise ConfigError("raw frames have neither names nor JSON", where="--frames",
                          todo="leave out --signal and --json")  # fmt: skip
    zone = zone_of(tz)
    [key] = load_keys([key_file], passphrase_file)
    show = _Show(zone, frozenset(names), lane_numbers(lanes), frames=frames)
    return _watch(path, key, show, as_json=as_json)


def _watch(path: Path, key: OwnerKey, show: _Show, *, as_json: bool) -> int:
    """Show what comes until it ends; say what was seen, whatever ended it."""
    from agent.owner.live import connect

    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stream = connect(path, key, frames=show.frames, is_over=stop.is_set)
    if stream is None:
        return 0
    began_s, ended = time.monotonic(), ""
    try:
        for part in stream.parts():
            show.take(part, stream, as_json=as_json)
            ended = part.ended
    finally:
        stream.close()
        show.end(time.monotonic() - began_s, as_json=as_json)
    if ended and not stop.is_set():
        raise HatchError(ended, where=stream.vehicle)
    return 0


class _Show:
    """Writes lines, and counts what it has seen.

    Args:
        zone: of local time.
        names: of signals; empty: all.
        lanes: sealed_pb2.Lane numbers; empty: all.
        frames: raw frames, and nothing else.
    """

    def __init__(
        self, zone: Any, names: frozenset[str], lanes: tuple[int, ...], *, frames: bool
    ) -> None:
        from agent.owner.live_lines import Ages, Changes

        self.frames = frames
        self._zone, self._names, self._lanes = zone, names, lanes
        self._changes, self._ages = Changes(zone, names), Ages()
        self._seen = {"frames": 0, "samples": 0, "records": 0}
        self._lost = [0, 0, 0]
        self._is_known = False  # the first policy was told

    def take(self, part: Part, stream: Stream, *, as_json: bool) -> None:
        """Show what has come at once."""
        if part.rule is not None:
            self._say_rule(part.rule, stream)
        if any(part.lost):
            self._lost = [one + more for one, more in zip(self._lost, part.lost, strict=True)]
            click.echo(f"lost, because this end is too slow: {_counted(part.lost)}", err=True)
        lines: list[bytes] = []
        for lane, payload in part.pieces:
            if not self._lanes or lane in self._lanes:
                lines += self._lines(payload, stream, part.arrived_ns, as_json=as_json)
        if lines:
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()

    def _lines(
        self, payload: Payload, stream: Stream, arrived_ns: int, *, as_json: bool
    ) -> list[bytes]:
        from agent.evidence.text import candump
        from agent.owner.live_lines import as_json as json_of
        from agent.owner.live_lines import chosen

        if self.frames:
            self._seen["frames"] += len(payload.frames)
            self._ages.add(arrived_ns, payload.frames["timestamp_ns"])
            return list(candump(payload.frames, payload.channels))
        rule = stream.rule_of(payload)
        samples = chosen(payload.signals, rule, self._names)
        self._seen["samples"] += len(samples)
        self._seen["records"] += 0 if self._names else len(payload.records)
        self._ages.add(arrived_ns, samples["timestamp_ns"])
        if as_json:
            return list(json_of(payload, rule, self._zone, self._names))
        return [f"{printable(one)}\n".encode() for one in self._changes.lines(payload, rule)]

    def _say_rule(self, rule: Rule, stream: Stream) -> None:
        """Say whose stream it is, and what there is to be seen.

        Raises:
            ConfigError: no signal has such a name.
        """
        from agent.units import nearest

        known = sorted({one.name for one in rule.dictionary.signal})
        for name in () if self._is_known else sorted(self._names.difference(known)):
            raise ConfigError(f"unknown signal '{name}'", where="--signal",
                              todo=nearest(name, known, noun="known signal"))  # fmt: skip
        self._is_known = True
        role = "owner" if stream.is_owner else "driver"
        said = f"{stream.vehicle}: you are the {role}; "
        if not rule.name:
            said += "no policy is in force, nothing is kept"
        else:
            said += f"policy {rule.name}, version {rule.version}"
            said += "" if rule.offers else ", keeps nothing that your key opens alone"
        click.echo(printable(said), err=True)

    def end(self, seconds: float, *, as_json: bool) -> None:
        """Say what was seen, if anything was to be seen."""
        if not self._is_known:
            return
        within = self._ages.within_ms((0.5, 0.99, 1.0))
        if as_json:
            ages = dict(zip(("half", "99%", "all"), within, strict=False))
            print_json({"seconds": round(seconds, 3), **self._seen, "lost": sum(self._lost),
                        "age_ms_within": ages}, err=True)  # fmt: skip
            return
        seen = _counted((self._seen["frames"], self._seen["samples"], self._seen["records"]))
        said = f"seen in {seconds:.1f} s: {seen}"
        if any(self._lost):
            said += f"; lost: {_counted(self._lost)}"
        if within:
            said += f"; half within {within[0]} ms of their stamps, all within {within[2]} ms"
        click.echo(said, err=True)


def _counted(counts: Any) -> str:
    """Return counts of frames, samples and records, those that are not 0."""
    words = ("frames", "samples", "events and camera triggers")
    found = [f"{count:,} {word}" for count, word in zip(counts, words, strict=True) if count]
    return ", ".join(found) or "nothing"
