"""TLS that stops before the first MQTT byte unless the peer is the region's broker.

paho wraps its socket and calls `do_handshake` before it queues CONNECT, and the SSLContext chooses
the class of that socket (`SSLContext.sslsocket_class`, documented). So `PinnedSocket` checks, in
this order, and closes on the first failure:

1. the peer's address lies in the region's prefixes: before the ClientHello, which carries a name
2. TLS 1.3, a path to the region's own issuing CA, the provisioned name, the server purpose, all by
   OpenSSL, which aborts before our certificate leaves
3. one deadline for the whole handshake
4. `pin.check_peer`: no resumption, pinned issuer, trusted time, exactly one region and it is ours

Nothing falls back, and nothing is read from the environment or the system's certificate store.
Every refusal is an OSError: paho's loop catches nothing else (eclipse-paho/paho.mqtt.python#894).
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent.clock import boottime_s
from agent.errors import ConfigError, LinkError, RegionRefusedError
from agent.files import read_plain, read_private_file
from agent.region import RegionCard
from agent.uplink.pin import Peer, check_address, check_anchors, check_peer
from agent.uplink.timing import MAX_PACKET_BYTES, Timing

# X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h): not exported by ssl, accepted by verify_flags.
# Validity is checked in check_peer against trusted time; the wall clock may say 1970.
_NO_CHECK_TIME: Final = 0x200000
_ENCODING_DER: Final = 2  # _ssl.ENCODING_DER

# openssl/x509_vfy.h, X509_V_ERR_*
_VERIFY_CODES: Final = {
    2: "issuer", 18: "issuer", 19: "issuer", 20: "issuer", 21: "issuer",
    25: "path", 26: "purpose", 62: "name", 64: "name",
}  # fmt: skip
_VERSION_ALERTS: Final = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION")


def load_identity(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Give a context the vehicle's certificate and key.

    Args:
        context: of a client.
        certificate: PEM chain.
        key: its private key, PEM, not encrypted; None: the certificate's file has it.

    Raises:
        ConfigError: they cannot be used, are no pair, or the key can be read by others.
    """
    if key is not None:
        read_private_file(key, "the vehicle's key")
    try:
        read_plain(certificate, MAX_PACKET_BYTES)  # OpenSSL would wait for a pipe
        # A password would be asked for on the terminal, at boot: give none.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        raise ConfigError(
            f"the vehicle's certificate or key cannot be used: {error}",
            where=f"{certificate}, {key}", todo="`inland station enroll` writes both",
        ) from None  # fmt: skip


class PinnedContext(ssl.SSLContext):
    """The TLS side of one connection.

    Args:
        card: the region.
        certificate: PEM chain of the vehicle's client certificate; None for none.
        key: its private key, PEM, not encrypted.
        now_ns: trusted time, ns since the Unix epoch.
        is_floor: it is that late at least, see `pin.check_peer`.
        timing: for the handshake's deadline.
        clock: seconds of CLOCK_BOOTTIME.

    Raises:
        ConfigError: the certificate or key cannot be used, the key can be read by others, or the
            card's CA is not PEM.
        RegionRefusedError: the trust anchors are not exactly the pinned ones.
    """

    received: int  # bytes that came in, TLS removed
    ended: bool  # the peer closed in good order
    fault: OSError | None  # why the socket ended; paho keeps no reason

    def __new__(cls, *_: object, **__: object) -> PinnedContext:
        """Make a client context, whatever the arguments are."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(
        self,
        card: RegionCard,
        certificate: Path | None,
        key: Path | None,
        *,
        now_ns: Callable[[], int],
        is_floor: bool = False,
        timing: Timing,
        clock: Callable[[], float] = boottime_s,
    ) -> None:
        self.card, self.timing, self.clock = card, timing, clock
        self.now_ns, self.is_floor = now_ns, is_floor
        self.received, self.ended, self.fault = 0, False, None
        self.sslsocket_class = PinnedSocket
        self.minimum_version = self.maximum_version = ssl.TLSVersion.TLSv1_3
        self.verify_mode, self.check_hostname = ssl.CERT_REQUIRED, True
        self.hostname_checks_common_name = False
        # Partial chain: the region's issuing CA is the anchor, not the root that also signs others.
        self.verify_flags = (
            ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT | ssl.VerifyFlags(_NO_CHECK_TIME)
        )
        self.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        self._load(certificate, key)
        check_anchors(self.get_ca_certs(binary_form=True), self.cert_store_stats()["x509"], card)

    def _load(self, certificate: Path | None, key: Path | None) -> None:
        try:
            self.load_verify_locations(cadata="\n".join(self.card.issuing_ca))
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"issuing_ca is not PEM: {error}", where="region card") from None
        if certificate is None:
            return
        load_identity(self, certificate, key)

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Wrap for the provisioned name, whatever address was dialled; never resume a session.

        An end without TLS's own goodbye is an error: a network cut the line, the broker did not.
        """
        options.update(server_hostname=self.card.host, session=None, suppress_ragged_eofs=False)
        return super().wrap_socket(sock, *args, **options)


class PinnedSocket(ssl.SSLSocket):
    """A socket on which nothing is sent before the region's broker has proved itself."""

    context: PinnedContext

    def do_handshake(self, block: bool = False) -> None:  # noqa: ARG002 - ssl's signature
        """Do the checks of the module's contract; the socket is closed if one fails.

        Raises:
            RegionRefusedError: the peer is not the region's broker.
            LinkError: the connection was lost.
        """
        try:
            check_address(str(self.getpeername()[0]), self.context.card.prefixes)
            self._handshake()
            context = self.context
            check_peer(self._peer(), context.card, context.now_ns(), is_floor=context.is_floor)
        except BaseException as error:
            self.close()  # paho forgets the socket without closing it
            raised = _refusal(error)
            if raised is error:
                raise
            raise raised from None

    def _handshake(self) -> None:
        deadline_s = self.context.clock() + self.context.timing.handshake_s
        self.setblocking(False)
        poll = select.poll()
        while True:
            try:
                super().do_handshake()
            except ssl.SSLWantReadError:
                poll.register(self, select.POLLIN)
            except ssl.SSLWantWriteError:
                poll.register(self, select.POLLOUT)
            else:
                return
            left_s = deadline_s - self.context.clock()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                limit = self.context.timing.handshake_s
                raise RegionRefusedError("handshake-deadline", f"not done in {limit} s")

    def _peer(self) -> Peer:
        leaf: Any = self.getpeercert()
        names = leaf.get("subjectAltName", ())
        return Peer(
            tls=str(self.version()),
            resumed=bool(self.session_reused),
            chain=self._verified_chain(),
            uris=tuple(str(value) for kind, value in names if kind == "URI"),
            not_before_s=ssl.cert_time_to_seconds(leaf["notBefore"]),
            not_after_s=ssl.cert_time_to_seconds(leaf["notAfter"]),
        )

    def _verified_chain(self) -> tuple[bytes, ...]:
        """Return the path that OpenSSL verified, DER, leaf first."""
        if sys.version_info >= (3, 13):
            return tuple(self.get_verified_chain())
        # Public from 3.13 on; 3.11 and 3.12 have the same below. Without it nothing is trusted.
        inner: Any = self._sslobj  # type: ignore[attr-defined]
        return tuple(link.public_bytes(_ENCODING_DER) for link in inner.get_verified_chain())

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; refuse a packet that is too large before one byte of it is kept.

        paho asks for all that a packet announces in one call (a test guards that it does), and it
        does not enforce MQTT's Maximum Packet Size.
        """
        try:
            if buflen > MAX_PACKET_BYTES:
                raise RegionRefusedError("packet-too-large", f"{buflen} bytes announced")
            data = super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLEOFError:
            self.context.fault = LinkError("the connection was cut").of_the_peer()
            raise self.context.fault from None
        except OSError as error:
            self.context.fault = error
            raise
        self.context.received += len(data)
        self.context.ended = not data
        return data

    def send(self, data: Any, flags: int = 0) -> int:
        """Send; note why the connection ended, if that shows here first."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            self.context.fault = error
            raise


def _refusal(error: BaseException) -> BaseException:
    """Return what a failed handshake means, as an error of ours."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = _VERIFY_CODES.get(error.verify_code, "certificate")
        return RegionRefusedError(code, error.verify_message)
    if isinstance(error, ssl.SSLError) and error.reason:
        if any(alert in error.reason for alert in _VERSION_ALERTS):
            return RegionRefusedError("tls-version", "the peer does not speak TLS 1.3")
        failed = LinkError(f"TLS failed: {error.reason}")
    elif isinstance(error, OSError) and not isinstance(error, LinkError):
        failed = LinkError(f"the connection was lost in the handshake: {error}")
    else:
        return error
    return failed.of_the_peer() if is_of_the_peer(error) else failed


def is_of_the_peer(error: OSError) -> bool:
    """Return whether an error tells of what the other end did: a reset, an end, a refusal."""
    if isinstance(error, LinkError):
        return error.by_peer
    if isinstance(error, ConnectionAbortedError):  # by our own computer: its address has gone
        return False
    ended = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
    return ended or error.errno == errno.ENOTCONN  # reset before we looked who it is
