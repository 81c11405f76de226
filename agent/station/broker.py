"""The region's broker: Mosquitto's configuration, and a broker as a child process.

Mosquitto 2.0 is what an operator runs: mutual TLS 1.3, the certificate's common name is the MQTT
user *and* the client id (so nobody can push another client off), and an ACL by that name.

`iotcore` (rumqttd in a wheel) stands in where Mosquitto is absent, for demonstrations: it speaks
TLS 1.3 and MQTT 5, but asks no client for a certificate and has no ACL, so it proves the region to
the car and not the car to the region. It binds to loopback alone.

A packet is at most 256 KiB, as the car announces as well.

Source: mosquitto.conf(5) of Mosquitto 2.0.11; rumqttd's configuration for 0.19.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent.errors import ConfigError, StationError
from agent.region import URI_PREFIX, RegionCard, load_region_card

MAX_PACKET_BYTES: Final = 256 * 1024
MAX_QUEUED_BYTES: Final = 256 * 1024 * 1024  # per client, while the station is behind
MAX_QUEUED_COUNT: Final = 100_000
MAX_INFLIGHT_COUNT: Final = 1000  # the client's own receive maximum is what really bounds it
START_S: Final = 10.0
STOP_S: Final = 5.0

Kind = Literal["auto", "mosquitto", "iotcore"]


def mosquitto_configuration(folder: Path, *, port: int, address: str = "") -> str:
    """Return mosquitto.conf for a region's folder.

    Args:
        folder: the region's folder, absolute.
        port: TCP port.
        address: address to bind to; empty: all.
    """
    # As root, Mosquitto would change its user, who cannot read the keys.
    user = "user root\n" if os.geteuid() == 0 else ""
    return f"""\
# Written by `inland station init`. Mosquitto 2.0: mosquitto -c {folder}/broker/mosquitto.conf
per_listener_settings false
{user}listener {port}{" " + address if address else ""}
tls_version tlsv1.3
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/broker/acl
max_packet_size {MAX_PACKET_BYTES}
message_size_limit {MAX_PACKET_BYTES}
max_inflight_messages {MAX_INFLIGHT_COUNT}
max_queued_messages {MAX_QUEUED_COUNT}
max_queued_bytes {MAX_QUEUED_BYTES}
max_keepalive 120
retain_available false
set_tcp_nodelay true
# Nothing durable lives in MQTT: the car keeps an entry until the station has signed for it.
persistence false
sys_interval 0
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true
"""


def mosquitto_acl(region_id: str) -> str:
    """Return the ACL: a car writes below its own name and reads below its own name, no more."""
    base = f"inland/1/{region_id}"
    return (
        f"# %u is the common name of the client's certificate.\n"
        f"user station\n"
        f"topic read {base}/up/#\n"
        f"topic write {base}/down/#\n"
        f"\n"
        f"pattern write {base}/up/%u/#\n"
        f"pattern read {base}/down/%u/#\n"
    )


def write_mosquitto_files(into: Path, folder: Path, *, region_id: str, port: int) -> None:
    """Write mosquitto.conf and its ACL.

    Args:
        into: folder to write to.
        folder: the region's final folder, which the configuration names.
        region_id: as in topics.
        port: TCP port.
    """
    (into / "mosquitto.conf").write_text(mosquitto_configuration(folder, port=port), "utf-8")
    (into / "acl").write_text(mosquitto_acl(region_id), "utf-8")
    for name in ("mosquitto.conf", "acl"):
        (into / name).chmod(0o600)  # Mosquitto warns of an ACL that others can read


def iotcore_configuration(folder: Path, *, port: int) -> str:
    """Return rumqttd's configuration for the stand-in broker, on loopback."""
    return f"""\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "inland"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.tls]
certpath = "{folder}/broker.pem"
keypath = "{folder}/broker.key"
[v5.1.connections]
connection_timeout_ms = 20000
max_payload_size = {MAX_PACKET_BYTES + 1024}
max_inflight_count = 200
dynamic_filters = true
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that runs as a child process.

    Attributes:
        kind: "mosquitto" or "iotcore".
        port: TCP port that it listens on, on 127.0.0.1.
        log: file with its output.
    """

    kind: str
    port: int
    log: Path
    _process: subprocess.Popen[bytes]

    def describe(self) -> str:
        """Return one line for people."""
        walls = {
            "mosquitto": "mutual TLS 1.3, access by certificate name",
            "iotcore": "TLS 1.3; no client certificates asked for: demonstrations only",
        }
        return f"{self.kind} on 127.0.0.1:{self.port} ({walls[self.kind]})"

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def stop(self) -> None:
        """End the process and wait for it. Safe to call twice."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_broker(folder: Path, kind: Kind = "auto", log: Path | None = None) -> Broker:
    """Start a broker for a region on loopback, on the card's port; wait until it answers.

    Args:
        folder: the region's folder.
        kind: "auto" takes Mosquitto if it is installed, else iotcore.
        log: file for its output; `broker/broker.log` in the folder if None.

    Raises:
        ConfigError: there is no region, or that broker is not installed.
        StationError: it did not start; says where its output is.
    """
    folder = folder.resolve()
    card = load_region_card(folder / "region.toml")
    port, region_id = card.port, card.region.removeprefix(URI_PREFIX)
    chosen = _choose(kind)
    if _answers(port):
        raise StationError("the port is taken", where=f"127.0.0.1:{port}", todo="stop that server")
    if chosen == "mosquitto":
        path = folder / "broker" / "loopback.conf"
        text = mosquitto_configuration(folder, port=port, address="127.0.0.1")
        (folder / "broker" / "acl").write_text(mosquitto_acl(region_id), "utf-8")
        command = [_mosquitto() or "mosquitto", "-c", str(path)]
    else:
        path = folder / "broker" / "iotcore.toml"
        text = iotcore_configuration(folder, port=port)
        command = [sys.executable, "-I", "-m", "iotcore", "--config", str(path)]
        command += ["--log-level", "CRITICAL"]  # rumqttd traces every packet as an error
    path.write_text(text, "utf-8")
    log = log or folder / "broker" / "broker.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # Ctrl-C is for us: the broker ends after the last receipts
        )
    broker = Broker(chosen, port, log, process)
    _await(broker, card, process)
    return broker


def _choose(kind: Kind) -> str:
    have = {
        "mosquitto": _mosquitto() is not None,
        "iotcore": importlib.util.find_spec("iotcore") is not None,
    }
    for name in ("mosquitto", "iotcore") if kind == "auto" else (kind,):
        if have[name]:
            return name
    raise ConfigError(
        "no MQTT broker found" if kind == "auto" else f"{kind} is not installed",
        todo="install mosquitto, or `pip install iotcore` for demonstrations",
    )


def _mosquitto() -> str | None:
    # Debian puts it into /usr/sbin, which is not on everybody's PATH.
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _await(broker: Broker, card: RegionCard, process: subprocess.Popen[bytes]) -> None:
    """Wait until the broker shakes hands as the region's.

    A port that answers is not enough: Mosquitto listens before it reads its key.
    """
    deadline = time.monotonic() + START_S
    pause = threading.Event()
    while process.poll() is None:
        if _shakes_hands(card):
            return
        if time.monotonic() > deadline:
            broker.stop()
            break
        pause.wait(0.02)
    raise StationError(
        f"{broker.kind} did not start (exit {process.returncode})", where=str(broker.log),
        todo="its output is in that file",
    )  # fmt: skip


def _shakes_hands(card: RegionCard) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata="\n".join(card.issuing_ca))
    try:
        with (
            socket.create_connection(("127.0.0.1", card.port), timeout=1) as plain,
            context.wrap_socket(plain, server_hostname=card.host),
        ):
            return True
    except OSError:
        return False


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
