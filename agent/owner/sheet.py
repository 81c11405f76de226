"""The recovery sheet: an owner's seed as 13 groups that a person can type. Pure.

- 32 bytes are 52 characters of Crockford's base32 (no I, L, O, U): 13 groups of 4. The 4 bits that
  are over hold the beginning of the seed's SHA-256.
- Each group has a check character behind it: over GF(32), the sum of its characters by powers of
  one element, and of the group's number. One wrong character, two that are exchanged, a group in
  another's place: each is found for certain, and named by group.
- Reading forgives: small letters, O for 0, I and L for 1, hyphens and spaces anywhere.

Source: Crockford's base32. GF(32) by x^5 + x^2 + 1.
"""

from __future__ import annotations

import html
from typing import Final

from agent.digest import sha256
from agent.errors import OwnerError

GROUPS: Final = 13
GROUP: Final = 5  # characters, the check included
LINE: Final = 4  # groups
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {one: at for at, one in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_POWERS: Final = (2, 4, 8, 16)  # x to x^4; the check character itself has weight 1
_NUMBER: Final = 5  # x^5: of the group's number


def groups(seed: bytes) -> tuple[str, ...]:
    """Return the 13 groups of a seed, five characters each.

    Raises:
        ValueError: not 32 bytes.
    """
    if len(seed) != 32:
        raise ValueError(f"a seed of {len(seed)} bytes")
    number = int.from_bytes(seed, "big") << 4 | sha256(seed)[0] >> 4
    values = [number >> 5 * (GROUPS * 4 - 1 - at) & 31 for at in range(GROUPS * 4)]
    found = []
    for at in range(GROUPS):
        part = values[4 * at : 4 * at + 4]
        found.append("".join(ALPHABET[one] for one in (*part, _check(part, at))))
    return tuple(found)


def read_group(number: int, typed: str) -> tuple[int, ...]:
    """Return the four values of a group.

    Args:
        number: of the group, from 1.
        typed: what a person typed.

    Raises:
        OwnerError: it is not that group; names it.
    """
    clean = _clean(typed)
    where = f"group {number}"
    if len(clean) != GROUP:
        raise OwnerError(
            f"'{clean[:20]}' has {len(clean)} characters, a group has {GROUP}", where=where
        )
    for one in clean:
        if one not in _VALUES:
            raise OwnerError(
                f"'{one}' stands in no group", where=where, todo="look at it once more"
            )
    values = [_VALUES[one] for one in clean]
    if _check(values[:4], number - 1) != values[4]:
        raise OwnerError(f"'{clean}' is mistyped, or stands in another place", where=where,
                         todo="compare it with the sheet")  # fmt: skip
    return tuple(values[:4])


def read(typed: str) -> bytes:
    """Return the seed of a sheet that was typed in.

    Args:
        typed: the groups in their order; spaces, hyphens and line ends between them mean nothing
            if every group has five characters between spaces.

    Raises:
        OwnerError: a mistake; names the group.
    """
    words = typed.split()
    if len(words) != GROUPS:  # written without spaces, or with others
        clean = _clean(typed)
        words = [clean[at : at + GROUP] for at in range(0, len(clean), GROUP)]
    values: list[int] = []
    for at, word in enumerate(words[:GROUPS]):
        values += read_group(at + 1, word)
    if len(words) != GROUPS:
        raise OwnerError(f"{len(words)} groups were typed, a sheet has {GROUPS}", where="the sheet")
    number = 0
    for one in values:
        number = number << 5 | one
    seed = (number >> 4).to_bytes(32, "big")
    if sha256(seed)[0] >> 4 != number & 15:
        raise OwnerError("every group is one, but not all are of this sheet", where="the sheet",
                         todo="compare all of them")  # fmt: skip
    return seed


def _clean(typed: str) -> str:
    return "".join(typed.upper().replace("-", " ").split())


def _check(values: list[int], at: int) -> int:
    total = _times(_NUMBER, at)
    for value, power in zip(values, _POWERS, strict=True):
        total ^= _times(power, value)
    return total


def _times(one: int, other: int) -> int:
    """Multiply in GF(32)."""
    product = 0
    for bit in range(5):
        if other >> bit & 1:
            product ^= one << bit
    for bit in range(9, 4, -1):
        if product >> bit & 1:
            product ^= 0b100101 << (bit - 5)
    return product


_WORDS: Final = (
    "Whoever has this sheet can open the data of the car. Keep it where you keep a passport.",
    "With it, `inland owner recover` makes the key again if the file or the passphrase is lost.",
    "Nobody else has a copy. Without key and sheet the data cannot be opened, by anybody.",
    "The fifth character of each group is a check: a mistake in typing is found.",
)
_WORDS_ZH: Final = (
    "持有本页者可打开车辆数据。请像保管护照一样保管。",
    "密钥文件或口令丢失时，可用 inland owner recover 由本页重新生成密钥。",
    "别处没有副本。没有密钥和本页，任何人都无法打开数据。",
)


def as_text(seed: bytes, *, name: str, kid: str) -> str:
    """Return the sheet as text that fits a page of 80 columns."""
    rows = ["inland recovery sheet", "", f"name  {name}", f"key   {kid}", ""]
    made = groups(seed)
    for at in range(0, GROUPS, LINE):
        row = made[at : at + LINE]
        rows.append("   ".join(f"{at + step + 1:>2}. {one}" for step, one in enumerate(row)))
    return "\n".join([*rows, "", *_WORDS, "", *_WORDS_ZH, ""])


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>inland recovery sheet</title>
<style>
:root { color-scheme: light dark; --ink: #16191d; --paper: #fff; --line: #c9ced6; --soft: #5b6470 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --paper: #16191d; --line: #444b55; --soft: #a2abb7 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 44rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .5rem }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 1rem; margin: 0 0 1.5rem }
dt { color: var(--soft) } dd { margin: 0; font-family: ui-monospace, monospace }
ol { list-style: none; margin: 0 0 1.5rem; padding: 0; display: grid; gap: .5rem;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)) }
li { border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .6rem;
  break-inside: avoid }
li small { color: var(--soft); display: inline-block; width: 1.6rem }
code { font: 600 1.25rem ui-monospace, monospace; letter-spacing: .12em }
@media print { :root { --ink: #000; --paper: #fff; --line: #888; --soft: #444 } body { margin: 0 } }
</style></head><body>
<h1>inland recovery sheet</h1>
<dl><dt>name</dt><dd>@NAME@</dd><dt>key</dt><dd>@KID@</dd></dl>
<ol>@GROUPS@</ol>
@WORDS@
</body></html>
"""


def as_page(seed: bytes, *, name: str, kid: str) -> str:
    """Return the sheet as one HTML page that needs nothing else, for a screen and for paper."""
    items = (
        f"<li><small>{at}</small><code>{one}</code></li>" for at, one in enumerate(groups(seed), 1)
    )
    words = [f"<p>{html.escape(one)}</p>" for one in _WORDS]
    words += [f'<p lang="zh">{html.escape(one)}</p>' for one in _WORDS_ZH]
    parts = {"@NAME@": html.escape(name), "@KID@": html.escape(kid), "@GROUPS@": "".join(items),
             "@WORDS@": "\n".join(words)}  # fmt: skip
    page = _PAGE
    for mark, part in parts.items():
        page = page.replace(mark, part, 1)
    return page
