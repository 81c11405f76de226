"""Checks a bundle of inland without trusting anybody: `python3 -I verify.py [FOLDER]`.

The standard library alone, Python 3.9 or later; proto/FORMAT.md says what is checked.
0: intact. 1: altered, log and entry are named. 3: cannot be decided, what is missing is named.

- bundle.json is not believed. It says what was asked for and what was left out on purpose; what can
  be counted again is, and what was left out is said.
- The car signs with a key that lies in the car. What the region has co-signed, the car cannot
  change any more; an entry that no co-signature covers is undecided, however the car has signed it.
- disclosures.json, of a bundle from the region, is the region's word on who got what.
- keys.json says whose co-signatures count. Compare the fingerprints with those that the region
  publishes, or give its card: `--card region.toml`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.evidence.proof import Log, attempt
from agent.evidence.wire import keys_in, read

FORMAT = "inland bundle 1"
MAX_LINES = 20  # findings of a kind that are shown to people


def verify(folder: Path, card: str = "") -> dict[str, Any]:
    """Return the verdict on a bundle, 0, 1 or 3, with what was found and who vouches for it.

    Args:
        folder: the bundle.
        card: text of the region's card; empty: the keys are believed that stand in the bundle.
    """
    found: dict[str, list[str]] = {"altered": [], "missing": []}

    def say(kind: str, where: str, why: str) -> None:
        found[kind].append(f"{where}: {why}")

    told = attempt(say, "bundle.json", _told, folder / "bundle.json")
    for name, digest in sorted(told["files"].items()) if told else ():
        attempt(say, name, _compare, folder / name, digest)
    text = card or attempt(say, "keys.json", _text, folder / "keys.json")
    there = {path.stem for path in folder.iterdir() if path.suffix[1:] in Log.FILES}
    names = sorted(there | set(told["logs"] if told else ()))
    logs = [Log(folder, name, keys_in(text or ""), say) for name in names]
    lost = {lost_log: at for log in logs for lost_log, at in log.gaps()}
    presence: dict[str, Counter[str]] = {}
    for log in logs if told else ():
        attempt(say, f"log {log.name}", log.judge, told, lost, presence)
    for log_id, at in lost.items() if told else ():
        if log_id[:8].hex() not in names and (told["asked"]["from_ns"] or 0) <= at:
            say(
                "missing", f"log {log_id[:8].hex()}", "another one continues it, and it is not here"
            )
    if not names:
        say("missing", str(folder), "no log is in it")
    path = folder / "disclosures.json"
    openings = attempt(say, path.name, _openings, path) if path.exists() else None
    if told and not any(found.values()) and told["presence"] != presence:
        say("altered", "bundle.json", "its counts are not those of the entries")
    verdict = 1 if found["altered"] else 3 if found["missing"] else 0
    counts = {name: dict(presence[name]) for name in sorted(presence)}
    about = [log.told() for log in logs]
    return {"verdict": verdict, **found, "logs": about, "presence": counts, "card": bool(card),
            "openings": openings}  # fmt: skip


def _text(path: Path) -> str:
    return bytes(read(path)).decode()


def _told(path: Path) -> Any:
    told = json.loads(_text(path))
    moments = [told["asked"][name] for name in ("from_ns", "to_ns")]
    names = [*told["files"], *told["logs"]]
    if told["format"] != FORMAT or any(re.fullmatch(r"\w[\w.-]*", name) is None for name in names):
        raise ValueError("is not of this version")
    if any(type(moment) is not int for moment in moments if moment is not None):
        raise TypeError("names no moments")
    if not isinstance(told["presence"], dict):
        raise TypeError("counts nothing")
    return told


def _openings(path: Path) -> int:
    return len(json.loads(_text(path))["openings"])


def _compare(path: Path, digest: str) -> None:
    if hashlib.sha256(read(path)).hexdigest() != digest:
        raise ValueError("is not the file that bundle.json names")


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield a verdict in words, for people."""
    for kind in ("altered", "missing"):
        yield from (f"{kind}: {one}" for one in result[kind][:MAX_LINES])
        if len(result[kind]) > MAX_LINES:
            yield f"{kind}: and {len(result[kind]) - MAX_LINES} more"
    for log in result["logs"]:
        yield f"log {log['log']} of {log['vehicle'] or 'a vehicle that nothing names'}"
        yield f"  entries {log['first']} to {log['last']}, {log['from']} to {log['to']}"
        if log["car_key"]:
            yield f"  signed by the car, key SHA-256 {log['car_key']}"
        for one in log["co_signed"]:
            yield f"  co-signed by {one['name']} at {one['at']}: entries 0 to {one['size'] - 1}"
            yield f"    key SHA-256 {one['key']}"
    for name, states in result["presence"].items():
        yield f"{name}: " + ", ".join(f"{count} {state}" for state, count in states.items())
    if result["openings"] is not None:
        yield f"openings by the region: {result['openings']}, by its own word; nothing proves them"
    if not result["card"]:
        yield "the region's key stands in the bundle itself: compare its SHA-256, or give --card"
    yield {0: "intact", 1: "ALTERED", 3: "cannot be decided"}[result["verdict"]]


def main(words: list[str]) -> int:
    """Verify the bundle that the command line names, by default the one around this file."""
    card = ""
    if "--card" in words[:-1]:
        at = words.index("--card")
        card = Path(words[at + 1]).read_text("utf-8")
        if not keys_in(card):
            sys.stderr.write("error: no co-signing key stands in that card\n")
            return 2
        words = words[:at] + words[at + 2 :]
    folder = Path(words[0]) if words else Path(__file__).resolve().parent
    if len(words) > 1 or not folder.is_dir():
        sys.stderr.write("usage: python3 -I verify.py [FOLDER] [--card region.toml]\n")
        return 2
    result = verify(folder, card)
    sys.stdout.write("\n".join(lines(result)) + "\n")
    return int(result["verdict"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
