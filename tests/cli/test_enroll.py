"""What is typed at `inland owner enroll`."""

from __future__ import annotations

import pytest

from agent.cli import owner_enroll
from agent.pb.hatch_pb2 import Presence, Present


class Hatch:
    """A car that shows 083355."""

    def __init__(self) -> None:
        self.typed: list[str] = []

    def presence(self, question: Presence) -> Present:
        self.typed.append(question.code)
        if question.code == "083355":
            return Present(id="1f")
        return Present(refused="that is not the code: 2 tries are left", seconds=90)


def test_what_cannot_be_a_code_costs_no_try(monkeypatch: pytest.MonkeyPatch, capsys):
    typed = iter(["", "no", "08335", "٠٨٣٣٥٥", "083356", "083 355"])
    monkeypatch.setattr("click.prompt", lambda *_, **__: next(typed))
    hatch = Hatch()
    assert owner_enroll._typed(hatch, err=False) == "1f"  # type: ignore[arg-type]
    assert hatch.typed == ["083356", "083355"]
    assert capsys.readouterr().err.splitlines() == [
        *["a code has six digits"] * 4,
        "that is not the code: 2 tries are left; it is shown for 90 s more",
    ]
