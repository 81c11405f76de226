"""`inland consent`: give, end and list the consents of whoever uses the car.

A running agent sees every change within a second; one that does not run sees it when it starts.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import config_option, json_option, print_json
from agent.cli.policy.files import in_force
from agent.errors import ConfigError, PolicyError
from agent.files import cannot_write

if TYPE_CHECKING:
    from agent.policy.consent import State, Wanted
    from agent.policy.consent_file import Edit
    from agent.policy.model import Policy

_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="State folder, in place of the configured one.",
)
_NS = 10**9


@click.group()
def command() -> None:
    """Give, refuse, withdraw and list consents. Without one, nothing of its category is kept.

    \b
    Example:
      inland consent ls
      inland consent grant location.track --for 30d
      inland consent withdraw location.track
    """


@command.command()
@click.argument("category")
@click.option("--until", metavar="DATE", help="It ends with this day, UTC: 2027-01-31.")
@click.option("--for", "length", metavar="DURATION", help="It ends after so long: 30d, 12h.")
@click.option("--this-drive", is_flag=True, help="It ends with this drive, or the next one.")
@click.option("--yes", is_flag=True, help="Do not ask: the person has read the notice elsewhere.")
@config_option
@_STATE
@json_option
def grant(
    category: str, *, until: str | None, length: str | None, this_drive: bool, yes: bool,
    config_path: Path, state: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Agree to what the policy in force does under CATEGORY, until a date.

    \b
    Examples:
      inland consent grant location.track --until 2027-01-31
      inland consent grant location.track --this-drive
    """
    from agent.cli.consent_view import moment, notice
    from agent.policy.consent_file import MAX_PENDING

    folder = _folder(config_path, state)
    policy = _in_force(folder)
    wanted = _asked(policy, category)
    now_ns = _now_ns()
    if this_drive and until is None and length is None:
        length = "1d"  # no drive is longer, and a consent has an end that a clock knows
    until_ns = _end(until, length, now_ns, wanted)
    each_drive = this_drive or wanted.each_drive
    # A program that asks for JSON still has the person read the notice: on the other stream.
    click.echo("\n".join(notice(policy, wanted, until_ns, each_drive=each_drive)), err=as_json)
    if not yes and not _agreed():
        click.echo("not agreed: nothing has changed")
        raise click.exceptions.Exit(1)
    path = folder / "consent.json"
    with _editing(path) as held:
        if len(held.book.changes) >= MAX_PENDING:
            raise ConfigError("too many changes that the agent has not seen", where=str(path),
                              todo="start the agent first")  # fmt: skip
        held.book = held.book.grant(
            wanted.terms, now_ns=now_ns, until_ns=until_ns, each_drive=each_drive
        )
    _tell_aside(held.aside)
    if as_json:
        print_json({"granted": category, "until": moment(until_ns), "each_drive": each_drive})
        return
    click.echo(f"granted: {category} until {moment(until_ns)}")


@command.command()
@click.argument("category", required=False)
@click.option("--all", "everything", is_flag=True, help="Every consent that was given.")
@config_option
@_STATE
@json_option
def withdraw(
    category: str | None, *, everything: bool, config_path: Path, state: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Take a consent back. What is still unsent of it is thrown away.

    \b
    Examples:
      inland consent withdraw location.track
      inland consent withdraw --all
    """
    from agent.policy.consent import State

    if everything == (category is not None):
        raise ConfigError("name one category, or say --all", where="inland consent withdraw")
    folder = _folder(config_path, state)
    if category is not None:
        _known(category)
    done = _stop(folder, category, State.WITHDRAWN)
    if as_json:
        print_json({"withdrawn": done})
        return
    if not done:
        what = f"{category} was not granted" if category else "nothing was granted"
        click.echo(f"{what}: nothing has changed")
    for one in done:
        click.echo(f"withdrawn: {one}")


@command.command()
@click.argument("category")
@config_option
@_STATE
@json_option
def refuse(category: str, *, config_path: Path, state: Path | None, as_json: bool) -> None:
    """Answer no: the category stays silent, and nobody needs to ask again.

    \b
    Example:
      inland consent refuse location.track
    """
    from agent.policy.consent import State

    folder = _folder(config_path, state)
    _asked(_in_force(folder), category)
    done = "withdrawn"
    if not _stop(folder, category, State.WITHDRAWN):
        done = "refused"
        with _editing(folder / "consent.json") as held:
            if held.book.state(category) is not State.REFUSED:
                held.book = held.book.end(category, State.REFUSED, now_ns=_now_ns())
        _tell_aside(held.aside)
    if as_json:
        print_json({done: category})
        return
    click.echo(f"{done}: {category}")


@command.command()
@config_option
@_STATE
@json_option
def ls(*, config_path: Path, state: Path | None, as_json: bool) -> None:
    """List every category that needs a consent, and where it stands.

    \b
    Example:
      inland consent ls --json
    """
    from agent.cli import consent_view
    from agent.policy.consent_file import read

    folder = _folder(config_path, state)
    policy = in_force(folder)
    rows = consent_view.rows(read(folder / "consent.json"), policy, _now_ns())
    if as_json:
        print_json({"policy": policy.name if policy else None, "consents": rows})
        return
    if not rows:
        click.echo("nothing needs a consent" if policy else "no policy is in force")
    for row in rows:
        click.echo(consent_view.row_text(row))


def _stop(folder: Path, category: str | None, state: State) -> list[str]:
    """End what is granted, of one category or of all; return what that was."""
    from agent.policy.consent import State

    path = folder / "consent.json"
    if not path.exists():  # nothing was ever granted, so nothing is made
        return []
    with _editing(path) as held:
        chosen = [category] if category is not None else sorted(held.book.grants)
        live = (State.GRANTED, State.NEEDS_RENEWAL)
        done = [one for one in chosen if held.book.state(one) in live]
        for one in done:
            held.book = held.book.end(one, state, now_ns=_now_ns())
    _tell_aside(held.aside)
    return done


@contextmanager
def _editing(path: Path) -> Iterator[Edit]:
    """Hold the file of consents, putting a damaged one aside.

    Raises:
        ConfigError: it cannot be changed.
        DiskError: the disk has no room; what was there stays.
    """
    from agent.policy.consent_file import edit

    try:
        with edit(path, mend=True, wait=True) as held:
            yield held
    except OSError as error:
        raise cannot_write(error, path, todo="run it as the agent's user") from None


def _agreed() -> bool:
    if not _is_terminal():
        raise ConfigError("nobody can be asked here", where="inland consent grant",
                          todo="say --yes if the person has agreed")  # fmt: skip
    return click.confirm("Do you agree?", default=False)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _end(until: str | None, length: str | None, now_ns: int, wanted: Wanted) -> int:
    """Return when a grant ends, ns since the epoch."""
    from agent.cli.consent_view import moment

    if (until is None) == (length is None):
        what = "a consent needs an end" if until is None else "a consent has one end"
        raise ConfigError(what, where="inland consent grant",
                          todo="say --until DATE or --for DURATION")  # fmt: skip
    end_ns = _date_ns(until) if until is not None else now_ns + _length_ns(length or "")
    key = "--until" if until is not None else "--for"
    if end_ns <= now_ns:
        raise ConfigError(f"that is over already: it is {moment(now_ns)}", where=key)
    if end_ns > now_ns + wanted.max_days * 86_400 * _NS:
        raise ConfigError(
            f"too long for {wanted.terms.category}", where=key,
            todo=f"the policy allows {wanted.max_days} days at most",
        )  # fmt: skip
    return end_ns


def _date_ns(text: str) -> int:
    """Return the end of a day, UTC."""
    try:
        day = datetime.date.fromisoformat(text)
        end = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
        return (int(end.timestamp()) + 86_400) * _NS
    except (ValueError, OverflowError):
        raise ConfigError(f"'{text}' is no day", where="--until",
                          todo="write one like 2027-01-31") from None  # fmt: skip


def _length_ns(text: str) -> int:
    from agent.units import duration_ns

    try:
        return duration_ns(text)
    except ValueError as error:
        raise ConfigError(str(error), where="--for") from None


def _now_ns() -> int:
    from agent.clock import first_trusted_ns, read_clocks

    return first_trusted_ns(read_clocks())


def _folder(config_path: Path, state: Path | None) -> Path:
    from agent.config import load_config
    from agent.service.acting import act_as_owner_of

    folder = state if state is not None else load_config(config_path).state
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is no state folder", where=str(folder))
    if state is not None and not folder.exists():
        raise ConfigError("there is no such state folder", where=str(folder),
                          todo="name the agent's, or say --config FILE")  # fmt: skip
    act_as_owner_of(folder)
    return folder


def _in_force(folder: Path) -> Policy:
    policy = in_force(folder)
    if policy is None:
        raise PolicyError(
            "no policy is in force: there is nothing to agree to", where=str(folder),
            todo="`inland policy install` puts one in force",
        )  # fmt: skip
    return policy


def _known(category: str) -> None:
    from agent.policy.vocabulary import CATEGORIES
    from agent.units import nearest

    if category not in CATEGORIES:
        raise ConfigError(f"unknown category '{category}'",
                          todo=nearest(category, CATEGORIES, noun="category"))  # fmt: skip


def _asked(policy: Policy, category: str) -> Wanted:
    from agent.policy.consent import wants

    _known(category)
    wanted = wants(policy)
    if category not in wanted:
        todo = f"it asks for {', '.join(wanted)}" if wanted else "it asks for none"
        raise PolicyError(
            f"the policy does not ask for a consent to '{category}'",
            where=f"policy {policy.name} version {policy.version}", todo=todo,
        )  # fmt: skip
    return wanted[category]


def _tell_aside(aside: Path | None) -> None:
    if aside is not None:
        click.echo(f"the file of consents was damaged and is now {aside}; a new one begins",
                   err=True)  # fmt: skip
