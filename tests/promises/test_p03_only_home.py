"""P3: not one MQTT byte goes to a peer that has not proved that it is the region's broker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.pb.moment_pb2 import CLOCK_FLOOR
from tests.hostile_broker import CONNACK, CONNECT, DISCONNECT, HostileBroker, Script, packet
from tests.pki import CLIENT, HOST, REGION, SIBLING, Pki
from tests.uplink.fakes import QUICK, Capture, Station, make_uplink, resolver, running


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def capture() -> Capture:
    capture = Capture(Station())
    capture.add(3)
    return capture


def refused(
    broker: HostileBroker, pki: Pki, capture: Capture, code: str, **options: object
) -> None:
    """Run an uplink against an impostor until it has refused it twice: it lives on and retries."""
    with broker, running(make_uplink(pki, broker.port, capture, **options)):
        assert broker.wait(lambda: capture.report.refused.get(code, 0) >= 2), capture.report
    assert broker.received == b"", "an MQTT byte left the car"
    assert set(capture.report.refused) == {code}
    assert not capture.confirmed


DEFECTS = {
    # name: (what is wrong with the certificate, code, OpenSSL stops before ours is sent)
    "sibling_region_ca": ({"issuer": "sibling"}, "issuer", True),
    "public_ca": ({"issuer": "public"}, "issuer", True),
    "wrong_host": ({"dns": ["other.north.test"]}, "name", True),
    "outside_name_constraint": ({"dns": [HOST, "broker.south.test"]}, "certificate", True),
    "no_subject_alternative_name": ({"dns": [], "uris": []}, "name", True),
    "client_purpose": ({"purpose": CLIENT}, "purpose", True),
    "wrong_region": ({"uris": [SIBLING]}, "region-uri", False),
    "two_regions": ({"uris": [REGION, SIBLING]}, "region-uri", False),
    "second_region_in_capitals": ({"uris": [REGION, SIBLING.upper()]}, "region-uri", False),
    "no_region": ({"uris": []}, "region-uri", False),
    "expired": ({"start_days": -40, "days": 20}, "validity", False),
    "not_yet_valid": ({"start_days": 20, "days": 20}, "validity", False),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_p03_impostor_certificate_gets_no_mqtt_byte(
    defect: str, pki: Pki, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public CA is even in the file that SSL_CERT_FILE names: nothing reads it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.public_file))
    wrong, code, before_ours = DEFECTS[defect]
    wrong = {k: getattr(pki, v) if k == "issuer" else v for k, v in wrong.items()}
    broker = HostileBroker(pki.leaf(defect, **wrong), client_ca=pki.ca_file)
    refused(broker, pki, capture, code)
    assert broker.saw_hello
    assert broker.saw_client_certificate is not before_ours


def test_p03_the_same_set_up_with_the_right_certificate_is_let_in(
    pki: Pki, capture: Capture
) -> None:
    """Else the tests above would prove nothing."""
    broker = HostileBroker(pki.leaf("good"), client_ca=pki.ca_file)
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.report.connected)
    assert broker.packets[0][0] == CONNECT
    assert broker.saw_client_certificate


def test_p03_clock_of_1970_neither_refuses_the_region_nor_lets_an_expired_one_in(
    pki: Pki, capture: Capture
) -> None:
    """Validity follows trusted time, which capture gives; the wall clock is not asked."""
    capture.now_ns = 2 * 86_400 * 10**9
    refused(HostileBroker(pki.leaf("good-1970")), pki, capture, "validity")


def test_p03_months_in_a_garage_with_a_dead_clock_do_not_lock_the_region_out(
    pki: Pki, capture: Capture
) -> None:
    """The certificate is newer than all that the car knows of the time: it must hear the time."""
    capture.now_ns -= 300 * 86_400 * 10**9
    capture.quality = CLOCK_FLOOR
    broker = HostileBroker(pki.leaf("renewed"), client_ca=pki.ca_file)
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.report.connected)
    capture.now_ns += 3000 * 86_400 * 10**9
    refused(HostileBroker(pki.leaf("long-ago")), pki, capture, "validity")


def test_p03_tls12_only_is_refused(pki: Pki, capture: Capture) -> None:
    refused(HostileBroker(pki.leaf("old"), tls12=True), pki, capture, "tls-version")


def test_p03_peer_outside_the_prefixes_gets_no_client_hello(
    pki: Pki, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy or a translated route: the connection is there, its other end is foreign."""
    broker = HostileBroker(pki.leaf("elsewhere"))
    monkeypatch.setattr("agent.uplink.dial.resolve", lambda *_: ("127.0.0.1",))
    card = pki.card(broker.port, prefixes=["10.0.0.0/8"])
    refused(broker, pki, capture, "address", card=card)
    assert not broker.saw_hello


@pytest.mark.parametrize(
    "answer", ["198.51.100.9", "::ffff:198.51.100.9", "64:ff9b::7f00:1", "2002:7f00:1::1", "::1"]
)
def test_p03_dns_answer_outside_the_prefixes_gets_no_syn(
    answer: str, pki: Pki, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: dialled.append(a))
    uplink = make_uplink(pki, 8883, capture, getaddrinfo=resolver(answer))
    waiter = threading.Event()
    with running(uplink):
        for _ in range(500):
            if capture.report.refused.get("no-address-in-region", 0) >= 2:
                break
            waiter.wait(0.01)
    assert set(capture.report.refused) == {"no-address-in-region"}
    assert dialled == []


def test_p03_slow_drip_ends_at_the_deadline(pki: Pki, capture: Capture) -> None:
    """One byte at a time passes every time-out per read; the deadline is for it all."""

    def drip(sock: socket.socket, stop: threading.Event) -> None:
        sock.recv(4096)
        try:
            sock.sendall(b"\x16\x03\x03\x40\x00")
            while not stop.wait(0.02):
                sock.sendall(b"\x02")
        except OSError:
            return

    timing = QUICK.__class__(**{**fields(), "handshake_s": 0.3})
    broker = HostileBroker(pki.leaf("drip"), raw=drip)
    refused(broker, pki, capture, "handshake-deadline", timing=timing)


def fields() -> dict[str, float]:
    return {name: getattr(QUICK, name) for name in QUICK.__dataclass_fields__}


@pytest.mark.parametrize("reason", [0x9C, 0x9D])
@pytest.mark.parametrize("how", ["connack", "disconnect"])
def test_p03_server_reference_is_not_followed(
    reason: int, how: str, pki: Pki, capture: Capture
) -> None:
    """Even to a server that has the region's own certificate."""
    other = HostileBroker(pki.leaf("other"))
    reference = f"127.0.0.1:{other.port}".encode()
    prop = b"\x1c" + len(reference).to_bytes(2, "big") + reference
    props = bytes([len(prop)]) + prop
    if how == "connack":
        script = Script(connack=packet(CONNACK, bytes([0, reason]) + props))
    else:
        script = Script(after_suback=packet(DISCONNECT, bytes([reason]) + props))
    broker = HostileBroker(pki.leaf("referring"), script)
    with other, broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: broker.handshakes >= 3)
        assert broker.wait(lambda: "not followed" in capture.report.last_error)
    assert other.accepted == 0


def test_p03_environment_has_no_effect(
    pki: Pki, capture: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No key log is written, no proxy asked, no other certificate trusted."""
    keylog = tmp_path / "keys"
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, str(pki.public_file))
    for name in ("mqtt_proxy", "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSLKEYLOGFILE", str(keylog))
    broker = HostileBroker(pki.leaf("good-env"))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.report.connected)
    refused(HostileBroker(pki.leaf("pub", issuer=pki.public)), pki, capture, "issuer")
    assert not keylog.exists()


POISON = """
openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
MaxProtocol = TLSv1.2
VerifyCAFile = {ca}
"""

PROBE = """
import socket, ssl, sys
from pathlib import Path
print(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).maximum_version.name)
from agent.errors import RegionRefusedError
from agent.uplink.timing import Timing
from agent.uplink.tls import PinnedContext
from agent.region import load_region_card
card = load_region_card(Path(sys.argv[1]))
try:
    context = PinnedContext(card, None, None, now_ns=lambda: int(sys.argv[2]), timing=Timing())
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", card.port)))
    sock.close()
except RegionRefusedError as error:
    print(error.code)
else:
    print("let in")
"""


@pytest.mark.parametrize(("issuer", "outcome"), [("public", "issuer"), ("region", "let in")])
def test_p03_poisoned_openssl_conf_opens_nothing(
    issuer: str, outcome: str, pki: Pki, capture: Capture, tmp_path: Path
) -> None:
    """OpenSSL has a configuration of its own, and it does change what a plain context is."""
    conf = tmp_path / "openssl.cnf"
    conf.write_text(POISON.format(ca=pki.public_file))
    leaf = pki.leaf(f"poisoned-{issuer}", issuer=getattr(pki, issuer))
    with HostileBroker(leaf) as broker:
        (tmp_path / "region.toml").write_text(card_toml(pki, broker.port))
        result = subprocess.run(
            [sys.executable, "-c", PROBE, tmp_path / "region.toml", str(capture.now_ns)],
            env={**os.environ, "OPENSSL_CONF": str(conf)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert result.stdout.split("\n")[:2] == ["TLSv1_2", outcome], result.stderr
    assert broker.received == b""


def card_toml(pki: Pki, port: int) -> str:
    import base64

    card = pki.card(port)
    text = lambda data: f'"{base64.b64encode(data).decode()}"'  # noqa: E731 - one line, one use
    return f'''
region = "{card.region}"
host = "{card.host}"
port = {port}
prefixes = ["127.0.0.0/8"]
issuing_ca = ["""{card.issuing_ca[0]}"""]
spki = [{text(card.spki[0])}]
receipt_keys = [{text(card.receipt_keys[0])}]
cosign_keys = []
recipient_key = {text(card.recipient_key)}
'''


def test_p03_nothing_in_the_agent_knows_the_system_certificate_store() -> None:
    """`tls_set` without arguments loads it; `create_default_context` honours SSLKEYLOGFILE too."""
    root = Path(__file__).resolve().parents[2] / "agent"
    banned = ("tls_set(", "create_default_context(", "load_default_certs(", "_unverified_context(")
    hits = [
        f"{path.name}: {word}"
        for path in root.rglob("*.py")
        for word in banned
        if word in path.read_text("utf-8")
    ]
    assert hits == []
