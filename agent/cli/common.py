"""What several commands share: the --config option, logging, JSON lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agent.config import DEFAULT_PATH
from agent.errors import ConfigError

LANES: Final = ("incident", "event", "routine", "recorder")  # as sealed_pb2.Lane counts them
GOOD_S: Final = 28 * 86_400  # for how long what is signed is good if nothing else is said
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def config_option(function: F) -> F:
    """Add --config FILE, by default /etc/inland/agent.toml."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_PATH,
        show_default=True,
        help="The agent's configuration.",
    )(function)


def json_option(function: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(
        function
    )


def wall_option(function: F) -> F:
    """Add --wall, for the units."""
    return click.option(
        "--wall", is_flag=True,
        help="As the boot service: start only if the service manager's wall stands.",
    )(function)  # fmt: skip


def verbose_option(function: F) -> F:
    """Add --verbose."""
    return click.option("-v", "--verbose", is_flag=True, help="Log more.")(function)


def log_to_stderr(*, verbose: bool) -> None:
    """Send log lines to standard error; the service manager stamps them itself."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


def moment_of(text: str | None, option: str, default: T) -> int | T:
    """Return ns since the Unix epoch of ISO 8601 or Unix seconds; the default for nothing.

    Raises:
        ConfigError: it is no moment.
    """
    from agent.evidence.selection import moment_ns

    if text is None:
        return default
    try:
        return moment_ns(text)
    except ValueError:
        raise ConfigError(
            f"'{text}' is no moment", where=option, todo="write 2026-11-22T08:00:00 or Unix seconds"
        ) from None


def parse_maps(texts: Iterable[str], what: str) -> dict[str, str]:
    """Return what --map options say: a log's channels and their other names.

    Args:
        texts: as they were given.
        what: they are renamed to, for the message.

    Raises:
        ConfigError: one is no pair.
    """
    maps = {}
    for text in texts:
        source, equals, target = text.partition("=")
        if not (source and equals and target):
            raise ConfigError(f"{text}: expected LOG_CHANNEL={what}", where="--map")
        maps[source] = target
    return maps


def moments_of(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Return the moments that --from and --to say, ns since the Unix epoch; None for nothing.

    Raises:
        ConfigError: one is no moment, or they are in the wrong order.
    """
    from_ns, to_ns = moment_of(start, "--from", None), moment_of(end, "--to", None)
    if from_ns is not None and to_ns is not None and to_ns < from_ns:
        raise ConfigError("ends before it begins", where="--to")
    return from_ns, to_ns


def expires_option(function: F) -> F:
    """Add --expires; `expiry_of` reads it."""
    return click.option(
        "--expires", metavar="TIME", help="Not to be served later.  [default: in 28 days]"
    )(function)


def expiry_of(text: str | None, now_s: int) -> int:
    """Return the Unix time that --expires says; four weeks from now for nothing.

    Raises:
        ConfigError: it is no moment, or over.
    """
    until_s = moment_of(text, "--expires", (now_s + GOOD_S) * 10**9) // 10**9
    if until_s <= now_s:
        raise ConfigError("is over already: the region would refuse it", where="--expires")
    return until_s


def span_options(function: F) -> F:
    """Add --from and --to; `span_of` reads them."""
    end = click.option("--to", "end", metavar="TIME", help="Last moment, inclusive.")
    start = click.option(
        "--from", "start", metavar="TIME",
        help="First moment: ISO 8601 (UTC if no zone) or Unix seconds.",
    )  # fmt: skip
    return start(end(function))


def span_of(start: str | None, end: str | None) -> tuple[int, int]:
    """Return the first and last moment that --from and --to say, ns since the Unix epoch.

    Raises:
        ConfigError: one is no moment, or they are in the wrong order.
    """
    from agent.evidence.selection import BEGIN_NS, FOREVER_NS

    from_ns, to_ns = moments_of(start, end)
    return BEGIN_NS if from_ns is None else from_ns, FOREVER_NS if to_ns is None else to_ns


def lane_numbers(lanes: Iterable[str]) -> tuple[int, ...]:
    """Return sealed_pb2.Lane numbers of what --lane options say."""
    return tuple(LANES.index(lane) for lane in lanes)


def output_option(function: F) -> F:
    """Add -o, a new file; `save_new` writes it."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True,
        help="New file.",
    )(function)  # fmt: skip


def save_new(path: Path, content: bytes) -> None:
    """Write a new file that only its owner reads, where somebody said with -o.

    Raises:
        ConfigError: something has that name, or the place cannot be written.
        DiskError: the disk has no room for it.
    """
    from agent.files import cannot_write, write_new

    try:
        write_new(path, content)
    except FileExistsError:
        raise ConfigError("is there already", where=str(path),
                          todo="name another with -o") from None  # fmt: skip
    except OSError as error:
        raise cannot_write(error, path, todo="name another place with -o") from None


def counted(count: int, one: str, many: str = "") -> str:
    """Return "1 vehicle", "2 vehicles"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def say_error(text: object) -> None:
    """Say on standard error, in one line, why something failed.

    Names of files and keys are whatever somebody called them: what would move a terminal's cursor
    is written as an escape.
    """
    click.echo(f"error: {printable(text)}", err=True)


def printable(text: object) -> str:
    """Return a text in one line that a terminal shows as it is."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )


def print_json(value: Mapping[str, Any], *, err: bool = False) -> None:
    """Print one JSON object on one line; `err`: on standard error, where data has the other."""
    click.echo(json.dumps(value, ensure_ascii=False), err=err)
