"""verify.py: the verifier in one file, for whoever has nothing of inland installed.

It is the files in PARTS one behind the other, as they are, with their imports gathered at the top:
what `inland verify` runs is what every bundle carries.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

PARTS: Final = ("ed25519.py", "wire.py", "segments.py", "proof.py", "verifier.py")
_FUTURE: Final = "from __future__ import annotations"


def verify_py() -> bytes:
    """Return verify.py.

    Raises:
        OSError: the sources of this package cannot be read.
    """
    head, imports, bodies = "", set[str](), list[str]()
    for name in PARTS:
        text = Path(__file__).with_name(name).read_text("utf-8")
        tree = ast.parse(text)
        used = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        imports |= {line for node in used if (line := ast.unparse(node)) and "agent." not in line}
        lines = text.split("\n")
        bodies.append("\n".join(lines[used[-1].end_lineno :]).strip("\n"))
        head = "\n".join(lines[: tree.body[0].end_lineno])  # of the last part: what verify.py is
    top = [_FUTURE, "", *sorted(imports - {_FUTURE}), ""]
    return "\n".join(["#!/usr/bin/env python3", head, "", *top, "\n\n\n".join(bodies), ""]).encode()
