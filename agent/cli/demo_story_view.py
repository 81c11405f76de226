"""What `inland demo --story` says at its end."""

from __future__ import annotations

from typing import Any

import click


def told(result: dict[str, Any], *, kept: bool) -> None:
    """Print what was found, for a person; say where it is if the folder is kept."""
    frames, took = result["frames"], result["seconds"]
    after, former = result["next_owner"], result["former_owner"]
    click.echo()
    click.echo(f"  the car sent          {frames['sent']:>9,} frames")
    click.echo(f"  the car kept          {frames['kept']:>9,} frames")
    click.echo(
        f"  the owner opened      {frames['opened']:>9,} frames, "
        f"{result['samples_opened']:,} samples"
    )
    click.echo(f"  seen live             {result['live_age_s']:>9.2f} s old at most, while driving")
    s = "" if result["incidents"] == 1 else "s"
    click.echo(f"  on the page           {result['incidents']:>9,} incident{s}, with the curves")
    click.echo(
        f"  it took               {took['export']:>9.1f} s to export, {took['verify']:.1f} s to "
        f"verify, {took['open']:.1f} s to open, {took['report']:.1f} s to make the page"
    )
    click.echo(f"  an altered bit        {'found':>9} in entry {result['altered_entry']}")
    click.echo(f"  an order opened       {frames['ordered']:>9,} frames, those of its window")
    click.echo(f"  erased at the sale    {result['erased']['contents']:>9,} contents")
    click.echo(f"  the next owner opens  {after['opened_of_before']:>9,} rows of before the sale")
    click.echo(f"  the former one opens  {former['opened_of_after']:>9,} rows of after it")
    click.echo(f"  broker                {result['broker']}")
    click.echo()
    if kept:
        click.echo(f"  the page              {result['page']}")
        click.echo(f"  the bundle            {result['bundle']}")
        click.echo(f"  the certificate       {result['erased']['certificate']}\n")
    else:
        click.echo(
            "Page, bundle and certificate go with the demo's folder: --keep FOLDER keeps it."
        )
    if result["ok"]:
        click.secho(f"Every step ended as it has to. {took['all']:.0f} s in all.", fg="green")
    else:
        click.secho(f"NOT every step ended as it has to: {result['why']}", fg="red")
