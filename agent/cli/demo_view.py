"""What `inland demo` shows: steps, one live line, a summary. Numbers come from the status."""

from __future__ import annotations

import sys
from typing import Any

import click


class View:
    """Tells the steps and keeps one live line up to date.

    Args:
        quiet: say nothing; the result is printed as JSON by somebody else.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stdout.isatty()
        self._live = False
        self._shown_s = -1.0
        self._braked = False

    def step(self, text: str) -> None:
        """Tell one step."""
        if self._quiet:
            return
        self.end()
        click.echo(text)

    def live(self, seconds: float, status: dict[str, Any], *, brakes_at_s: float) -> None:
        """Show how far the frames have come; on a terminal in place, else a line a second.

        Args:
            seconds: since the first frame.
            status: of the agent.
            brakes_at_s: when the car brakes.
        """
        brakes = not self._braked and seconds >= brakes_at_s
        if self._quiet or (not self._terminal and not brakes and seconds - self._shown_s < 1):
            return
        self._shown_s, self._braked = seconds, self._braked or brakes
        frames, link = status["frames"], status["link"]
        pending = status["spool"]["pending"]
        lanes = " ".join(f"{lane} {count}" for lane, count in pending.items())
        line = (
            f"{seconds:5.1f} s  frames {frames['received']:>7,}  kept {frames['kept']:>7,}  "
            f"sealed {status['segments']:>4}  uploaded {link['sent']:>4}  "
            f"receipts {status['receipts']:>4}  waiting: {lanes}"
        )
        note = click.style("   the car brakes hard", bold=True) if brakes else ""
        # Braking stays on the screen; every other line gives way to the next.
        keep = not self._terminal or brakes
        click.echo(("\r\033[K" if self._terminal else "") + line + note, nl=keep)
        self._live = not keep

    def end(self) -> None:
        """Leave the live line as it is."""
        if self._live:
            click.echo()
        self._live = False


def summary(result: dict[str, Any]) -> None:
    """Print what was found, for a person."""
    sent, opened, lost = (result[f"frames_{what}"] for what in ("sent", "opened", "lost"))
    click.echo()
    click.echo(f"  the car sent          {sent:>9,} frames")
    click.echo(f"  the policy kept       {result['frames_kept']:>9,} frames")
    click.echo(f"  the region opened     {opened:>9,} frames, {result['samples_opened']:,} samples")
    click.echo(f"  missing               {lost:>9,}")
    click.echo(
        f"  sealed and uploaded   {result['segments']:>9,} segments, "
        f"{result['receipts']:,} entries receipted, {result['bytes_per_frame']:.1f} bytes a frame"
    )
    click.echo(
        f"  hardest braking       {result['hardest_braking_kmh_s']:>9.0f} km/h in one second"
    )
    for event in result["events"]:
        click.echo(
            f"  incident              {event['rule']:>9}: {event['before_s']:.1f} s before and "
            f"{event['after_s']:.1f} s after are kept"
        )
    click.echo(f"  broker                {result['broker']}")
    click.echo()
    if result["ok"]:
        click.secho(
            f"Every frame arrived, byte for byte. {result['seconds']:.0f} s in all.", fg="green"
        )
    else:
        click.secho(f"NOT every frame arrived: {result['why']}", fg="red")
