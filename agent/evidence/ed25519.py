"""Ed25519 verification in the standard library alone: RFC 8032, 5.1.7, without the cofactor. Pure.

It is a part of verify.py (see bundle.py), which has to run where nothing is installed: Python 3.9.
A signature is judged as OpenSSL judges it, but that a key of small order signs nothing: under such
a key anybody can sign.
"""

from __future__ import annotations

import hashlib

Point = tuple[int, int, int, int]  # in extended coordinates

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE = (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")
NEUTRAL: Point = (0, 1, 1, 0)


def _add(p: Point, q: Point) -> Point:
    # Complete: also for p = q.
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _point(data: bytes) -> Point | None:
    # None: no point, or not in its one canonical form.
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if len(data) != 32 or y >= P or (v * x * x - u) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def _encoded(p: Point) -> bytes:
    z = pow(p[2], P - 2, P)
    return bytes((p[1] * z % P | (p[0] * z % P & 1) << 255).to_bytes(32, "little"))


def signed_by(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature is this key's. A key of small order signs nothing."""
    key, s = _point(public), int.from_bytes(signature[32:], "little")
    if key is None or len(signature) != 64 or s >= L:
        return False
    times4 = _add(_add(key, key), _add(key, key))
    if _encoded(_add(times4, times4)) == _encoded(NEUTRAL):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    base = _point(BASE)
    assert base is not None
    minus = (P - key[0], key[1], 1, P - key[3])
    table, total = (NEUTRAL, base, minus, _add(base, minus)), NEUTRAL
    for bit in range(252, -1, -1):
        total = _add(total, total)
        if pick := (s >> bit & 1) | (k >> bit & 1) << 1:
            total = _add(total, table[pick])
    return _encoded(total) == signature[:32]
