"""From a digest in a receipt to a policy in force, over a real hatch."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.hatch import HatchClient, HatchServer
from agent.pb.delivery_pb2 import PolicyBundle, PolicyChunk, PolicyFile, PolicyQuestion
from agent.pb.hatch_pb2 import HatchReply, HatchRequest
from agent.pb.ledger_pb2 import Refusal
from agent.service import policy_fetch
from agent.service.installer import Installer
from agent.service.policy_fetch import PolicyFetch

NOW_NS = 1_800_000_000 * 10**9
# Stands in for `inland policy install`: says what it found, and refuses on request.
INSTALL = """
import pathlib, sys
folder = pathlib.Path(sys.argv[3])
if (folder / "metadata" / "refuse.json").exists():
    sys.exit("the metadata is not signed")
print(*sorted(p.name for p in folder.rglob("*.json")), "in force")
"""
TARGET = f"targets/{'cd' * 32}.default.policy"


def pack(*names: str) -> bytes:
    return PolicyBundle(
        file=[PolicyFile(name=name, data=b"data of " + name.encode()) for name in names]
    ).SerializeToString()


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def make(folder: Path, **options: object) -> PolicyFetch:
    installer = Installer(
        folder / "agent.toml", command=lambda *a: [sys.executable, "-I", "-c", INSTALL, *a]
    )
    return PolicyFetch(folder / "policy", installer, now_ns=lambda: NOW_NS, **options)


def hand_over(fetch: PolicyFetch, data: bytes, step: int = 50) -> None:
    assert fetch.named(digest(data))
    while (question := fetch.wanted()) is not None:
        piece = data[question.offset : question.offset + step]
        chunk = PolicyChunk(
            bundle=question.bundle, size=len(data), offset=question.offset, data=piece
        )
        assert fetch.chunk(chunk.SerializeToString()).valid


def settle(fetch: PolicyFetch) -> dict:  # type: ignore[type-arg]
    """Step until nothing is left to do."""
    waiter = threading.Event()
    fetch.step()
    for _ in range(3000):
        if not fetch.status()["installing"]:
            return fetch.status()
        fetch.step()
        waiter.wait(0.01)
    raise AssertionError("it never ended")


def test_a_bundle_is_installed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    fetch, data = make(tmp_path), pack("metadata/1.root.json", TARGET)
    caplog.set_level("INFO", "agent.service.policy_fetch")
    hand_over(fetch, data)
    status = settle(fetch)
    assert (status["outcome"], status["code"]) == ("installed", None)
    assert status["bundle"] == status["offered"] == digest(data).hex()
    assert status["at_unix_ns"] == NOW_NS
    assert caplog.messages == ["policy: 1.root.json in force"]
    assert fetch.take_refusals() == []
    assert not fetch.named(digest(data))
    assert not make(tmp_path).named(digest(data)), "nor after a restart"


def test_a_refusal_is_told_once_and_the_bundle_is_not_fetched_again(tmp_path: Path):
    fetch, data = make(tmp_path), pack("metadata/refuse.json")
    hand_over(fetch, data)
    assert settle(fetch)["code"] == "refused"
    assert fetch.take_refusals() == [Refusal(what="policy", code="refused", count=1)]
    assert fetch.take_refusals() == []
    assert not fetch.named(digest(data))
    assert fetch.wanted() is None


def test_a_bundle_with_a_name_that_escapes_is_not_installed(tmp_path: Path):
    fetch, data = make(tmp_path), pack("metadata/1.root.json", "../../escaped.json")
    hand_over(fetch, data)
    assert settle(fetch)["code"] == "bundle"
    assert fetch.take_refusals() == [Refusal(what="policy", code="bundle", count=1)]
    assert list(tmp_path.rglob("escaped*")) == []


def test_a_disk_that_does_not_take_it_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fetch, data = make(tmp_path), pack("metadata/1.root.json")
    hand_over(fetch, data)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.capture.incoming.write_new", full)
    assert settle(fetch)["code"] == policy_fetch.STORAGE
    assert [refusal.code for refusal in fetch.take_refusals()] == ["storage"]
    assert fetch.step() == policy_fetch.LOOK_S
    assert fetch.take_refusals() == []


def test_a_car_that_could_not_check_a_bundle_asks_for_none(tmp_path: Path):
    fetch = make(tmp_path, enabled=False)
    assert not fetch.named(digest(b"x"))
    assert fetch.wanted() is None
    assert fetch.status()["offered"] is None


def test_the_end_of_the_process_ends_the_installation_and_it_is_tried_again(tmp_path: Path):
    installer = Installer(
        tmp_path / "agent.toml", command=lambda *_: [sys.executable, "-I", "-c", "input()"]
    )
    fetch = PolicyFetch(tmp_path / "policy", installer, now_ns=lambda: NOW_NS)
    data = pack("metadata/1.root.json")
    hand_over(fetch, data)
    fetch.step()
    assert fetch.status()["installing"]
    fetch.close()
    assert make(tmp_path).named(digest(data))


@contextmanager
def hatch_to(fetch: PolicyFetch, path: Path) -> Iterator[HatchClient]:
    """A hatch that answers as answers.py is to."""

    def answer(request: HatchRequest) -> HatchReply:
        if request.WhichOneof("what") == "deliver" and request.deliver.kind == "policy":
            return HatchReply(accepted=fetch.chunk(request.deliver.payload))
        if request.WhichOneof("what") == "policy":
            return HatchReply(policy=fetch.wanted() or PolicyQuestion())
        return HatchReply(error="not a request")

    server = HatchServer(path, answer, allowed_uids=frozenset({os.getuid()}))
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,), name="hatch")
    thread.start()
    try:
        client = HatchClient(path)
        yield client
        client.close()
    finally:
        stop.set()
        thread.join(10)
        server.close()


def test_over_a_real_hatch_while_another_thread_installs(tmp_path: Path):
    fetch, stop = make(tmp_path), threading.Event()

    def steps() -> None:
        while not stop.is_set():
            fetch.step()
            stop.wait(0.01)

    thread = threading.Thread(target=steps, name="policy")
    thread.start()
    try:
        with hatch_to(fetch, tmp_path / "hatch") as hatch:
            assert hatch.policy() is None
            for number in (1, 2, 3):
                data = pack(f"metadata/{number}.root.json", TARGET)
                assert fetch.named(digest(data))
                while (question := hatch.policy()) is not None:
                    end = question.offset + 64
                    chunk = PolicyChunk(
                        bundle=question.bundle, size=len(data), offset=question.offset,
                        data=data[question.offset : end],
                    )  # fmt: skip
                    assert hatch.deliver("policy", chunk.SerializeToString()).valid
                waiter = threading.Event()
                for _ in range(3000):
                    status = fetch.status()
                    if (status["bundle"], status["outcome"]) == (digest(data).hex(), "installed"):
                        break
                    waiter.wait(0.01)
                assert status["outcome"] == "installed"
            assert not hatch.deliver("policy", b"junk").valid
    finally:
        stop.set()
        thread.join(10)
        fetch.close()
