"""`inland owner open` and `report`: what the owner does with a bundle at home."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agent.cli.common import LANES, json_option, lane_numbers, print_json, span_of, span_options
from agent.cli.private_key import KEY, load_keys
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.owner.at_home import Home
    from agent.owner.page.story import Story
    from agent.owner.presence_matrix import Known

F = TypeVar("F", bound=Callable[..., Any])
MAX_PROBLEMS: Final = 20  # lines; --json has all


def _options(function: F) -> F:
    """Add what both commands share."""
    for option in reversed((
        click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False)),
        click.option("--key", "key_files", multiple=True, default=(KEY,), show_default=True,
                     type=click.Path(path_type=Path, dir_okay=False),
                     help="The owner's private key. Repeat for keys of other times."),
        click.option("--passphrase-file", type=click.Path(path_type=Path, dir_okay=False),
                     help="Its first line opens the keys, in place of asking."),
        span_options,
        click.option("--tz", help="Zone of local time, e.g. Asia/Shanghai; the machine's if not."),
        click.option("--dbc", "dbc_files", multiple=True,
                     type=click.Path(path_type=Path, dir_okay=False),
                     help="Look for its signals as well. Repeat for more."),
        click.option("--card", type=click.Path(path_type=Path, dir_okay=False),
                     help="The region's card: believe its keys, not those in the bundle."),
        json_option,
    )):  # fmt: skip
        function = option(function)
    return function


@click.command(name="open")
@_options
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False),
              help="New folder; BUNDLE.opened if left out.")  # fmt: skip
@click.option("--frames", "formats", multiple=True, default=("candump",), show_default=True,
              type=click.Choice(["candump", "blf", "gvret", "none"]),
              help="How raw frames are written. Repeat for more.")  # fmt: skip
@click.option("--lane", "lanes", multiple=True, type=click.Choice(LANES),
              help="Write frames and signals of it alone: what a rule and the recorder both keep"
              " is on two. Repeat for more.")  # fmt: skip
@click.option("--decode", multiple=True, metavar="SIGNAL",
              help="Read it out of the raw frames, to decoded.csv. Repeat for more.")  # fmt: skip
def open_(
    *, output: Path | None, formats: tuple[str, ...], decode: tuple[str, ...],
    lanes: tuple[str, ...], **options: Any,
) -> int:  # fmt: skip
    """Open a BUNDLE with the owner's key: signals, raw frames, events, presence.

    It is verified first. Exit code 0: intact and complete. 1: something was altered. 3: something
    is missing. What could be opened is written all the same. BLF takes some 3 s for a million
    frames.

    \b
    Examples:
      inland owner open v-1f0c-20261122T080000Z.inland --key ~/inland/owner.key
      inland owner open BUNDLE --frames blf --lane routine --tz Asia/Shanghai
      inland owner open BUNDLE --dbc vehicle.dbc --decode DI_vehicleSpeed --decode DI_torque
    """
    from agent.owner.at_home import only, story
    from agent.owner.write_out import write_out
    from agent.owner.zone import zone_of

    zone, folder = zone_of(options["tz"]), output or _beside(options["bundle"], ".opened")
    if folder.exists():
        raise ConfigError("is there already", where=str(folder), todo="name another with -o")
    home, known = _home(options), _known(options["dbc_files"])
    told = story(home, made_ns=time.time_ns(), known=known)
    wanted = [one for name in decode for one in _named(told, name, "--decode")]
    if lanes:
        home = only(home, lane_numbers(lanes))
    rows = home.opened.frame_count * sum(one != "none" for one in formats)
    with _bar("writing", rows + 2 * home.opened.sample_count) as advance:
        written = write_out(
            home, told.presence, folder, formats=formats, zone=zone, known=wanted,
            progress=advance,
        )  # fmt: skip
    files = {"folder": str(folder), "files": list(written.files), "left_out": written.left_out}
    lines = [f"{folder}: {', '.join(written.files)}"]
    if written.left_out:
        lines.append(f"{written.left_out:,} remote and error frames have no place in a GVRET CSV")
    return _report(home, files, lines, as_json=options["as_json"])


@click.command()
@_options
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
              help="The page; BUNDLE.html if left out.")  # fmt: skip
@click.option("--lang", "language", type=click.Choice(["en", "zh"]), default="en",
              show_default=True, help="Language of the page.")  # fmt: skip
@click.option("--plot", multiple=True, metavar="SIGNAL",
              help="Draw it; speed, brake, steering, accelerator if left out.")  # fmt: skip
def report(*, output: Path | None, language: str, plot: tuple[str, ...], **options: Any) -> int:
    """Make one HTML page of a BUNDLE: incidents, presence of every signal, who got what.

    The page loads nothing; it can be read on a phone, printed and passed on. Exit codes as `open`.

    \b
    Examples:
      inland owner report v-1f0c-20261122T080000Z.inland --lang zh --tz Asia/Shanghai
      inland owner report BUNDLE --plot DI_vehicleSpeed --plot DI_torque --dbc vehicle.dbc
    """
    from agent.files import cannot_write, write_whole
    from agent.owner.at_home import story
    from agent.owner.page.file import page_of
    from agent.owner.zone import zone_of

    zone, path = zone_of(options["tz"]), output or _beside(options["bundle"], ".html")
    home, known = _home(options), _known(options["dbc_files"])
    told = story(home, made_ns=time.time_ns(), known=known, plot=plot)
    for name in plot:
        _named(told, name, "--plot")
    text = page_of(told, language="zh" if language == "zh" else "en", zone=zone)
    try:
        write_whole(path.absolute(), [text.encode()])
    except OSError as error:
        raise cannot_write(error, path, todo="name another place with -o") from None
    files = {"page": str(path), "incidents": len(told.events)}
    return _report(home, files, [f"{path}: open it in a browser"], as_json=options["as_json"])


def _beside(bundle: Path, ending: str) -> Path:
    name = bundle.absolute().name.removesuffix(".inland")
    return bundle.absolute().with_name(name + ending)


def _home(options: dict[str, Any]) -> Home:
    """Verify and open the bundle."""
    from agent.owner.at_home import bring_home

    from_ns, to_ns = span_of(options["start"], options["end"])
    card = _card(options["card"])
    keys = load_keys(options["key_files"], options["passphrase_file"])
    with _bar("opening", 0) as advance:
        return bring_home(
            options["bundle"], [key.private for key in keys],
            from_ns=from_ns, to_ns=to_ns, card=card,
            begin=advance.begin, progress=advance,
        )  # fmt: skip


def _card(path: Path | None) -> str:
    from agent.region import load_region_card

    if path is None:
        return ""
    text = "\n".join(load_region_card(path).cosign_keys)
    if not text:
        raise ConfigError("the card names no key for co-signing", where=str(path))
    return text


def _known(paths: tuple[Path, ...]) -> list[Known]:
    if not paths:
        return []
    from agent.policy.dbc import Dictionary

    return [(one.info, one.layout) for one in Dictionary(list(paths)).all()]


def _named(told: Story, name: str, option: str) -> list[Known]:
    """Return the signals of a name.

    Raises:
        ConfigError: neither the policies of the bundle nor a DBC file know it.
    """
    from agent.units import nearest

    found = told.signals.named(name)
    if not found:
        advice = nearest(name, told.signals.names, noun="known signal")
        raise ConfigError(f"unknown signal '{name}'", where=option, todo=advice)
    return found


class _Advance:
    """A progress bar whose length is known later."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def begin(self, length: int) -> None:
        self._bar.length = length

    def __call__(self, count: int) -> None:
        self._bar.update(count)


@contextmanager
def _bar(label: str, length: int) -> Iterator[_Advance]:
    with click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        yield _Advance(bar)


def _report(home: Home, files: dict[str, Any], lines: list[str], *, as_json: bool) -> int:
    """Say what was found; return the exit code."""
    from agent.owner.at_home import STATES
    from agent.owner.copies import frames_once, samples_once

    opened, code = home.opened, home.verdict
    copies = opened.frame_count + opened.sample_count - frames_once(opened) - samples_once(opened)
    if as_json:
        print_json({
            "verdict": STATES[code], **files, "segments": opened.segments,
            "frames": opened.frame_count, "samples": opened.sample_count,
            "copies": copies,
            "events": opened.event_count, "dropped": opened.dropped, "closed": len(home.closed),
            "problems": [problem._asdict() for problem in opened.problems],
            "verified": home.checked,
        })  # fmt: skip
        return code
    said = f"{opened.segments:,} segments: {opened.frame_count:,} frames, "
    said += f"{opened.sample_count:,} samples"
    said += f" ({copies:,} of them copies on another lane)" if copies else ""
    said += f", {opened.event_count:,} events"
    said += f", {len(home.closed):,} sealed to others" if home.closed else ""
    for reason, count in opened.dropped.items():
        said += f", {count:,} removed ({reason})"
    if home.closed and not opened.segments:
        said += "\nnothing in it is sealed to this key: it opens nothing here"
    for line in (said, *lines):
        click.echo(line)
    problems = [f"altered: {one}" for one in home.checked["altered"]]
    problems += [f"missing: {one}" for one in home.checked["missing"]]
    problems += [f"{one.kind}: {one.where}: {one.why}" for one in opened.problems]
    for line in problems[:MAX_PROBLEMS]:
        click.echo(line, err=True)
    if len(problems) > MAX_PROBLEMS:
        click.echo(f"and {len(problems) - MAX_PROBLEMS} more: --json has all", err=True)
    click.echo(f"the bundle: {STATES[code]}")
    return code
