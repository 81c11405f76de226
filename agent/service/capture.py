"""The process `inland capture`: CAN and the vault, and no internet socket.

Order of a start: sockets first (`sockets.py`; the kernel stamps and buffers meanwhile), heavy
imports after, then the vault, the hatch, the live socket and the readers; READY is told when frames
flow. The main thread is the sealer.
Order of an end: readers, hatch, live socket, then what is still in memory is sealed, then the spool
is closed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.config import Bus, Config
from agent.errors import ConfigError, TransferPendingError
from agent.service.crew import Crew
from agent.service.notify import Watchdog, notify

if TYPE_CHECKING:
    from agent.capture.early import Socket
    from agent.pb.moment_pb2 import Moment
    from agent.service.live import LiveServer

POLL_S: Final = 0.2  # how often --once asks whether everything is receipted

log = logging.getLogger(__name__)


def run_capture(
    config: Config,
    sockets: dict[str, Socket] | None = None,
    *,
    once: bool = False,
    wall: bool = False,
) -> dict[str, Any] | None:
    """Run until a signal, or with `once` until every log has ended and all is receipted.

    Returns the last status, as `inland status` has it, if it ended because all was done.

    Args:
        config: what to run.
        sockets: by name of the bus, as `bind_sockets` has bound them; owned from now on.
        once: end by itself.
        wall: as the boot service: behind a wall that is proved first, with uplink as another user.

    Raises:
        ConfigError: `once` with a bus that never ends.
        WallError: an internet socket could be opened.
        InlandError: what stops a start, or what ended a thread.
    """
    if wall:
        from agent.service.wall import prove_capture

        prove_capture()
    if once and not (config.buses and all(map(_is_log, config.buses))):
        raise ConfigError(
            '--once needs buses that end: only [[bus]] with interface = "log"',
            where=str(config.path),
        )
    crew = Crew()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: crew.stop.set())
    process = CaptureProcess(config, sockets or {}, askers=_askers(service=wall))
    clean = False
    try:
        process.start(crew)
        process.work(crew, once=once)
        clean = True
    finally:
        process.end(crew, clean=clean)
    if process.is_parting:
        raise TransferPendingError("the car is being transferred", todo="start the agent again")
    return process.last_status


def _askers(*, service: bool) -> frozenset[int]:
    """Return the users who may ask anything at the hatch: root, our own, uplink's if it has one."""
    askers = {0, os.geteuid()}
    if service:
        import pwd

        from agent.service.names import UPLINK

        with contextlib.suppress(KeyError):  # then it is refused, and says so
            askers.add(pwd.getpwnam(UPLINK).pw_uid)
    return frozenset(askers)


def _is_log(bus: Bus) -> bool:
    return bool(bus.settings["interface"] == "log")


def _read_clocks() -> Moment:
    from agent.pb.moment_pb2 import Moment

    return Moment(unix_ns=time.time_ns(), boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class CaptureProcess:
    """The parts of a running capture process, built bottom up."""

    def __init__(self, config: Config, early: dict[str, Socket], *, askers: frozenset[int]) -> None:
        from agent import __version__
        from agent.capture import gate, limits
        from agent.capture.force import Surroundings
        from agent.capture.live import LiveFeed
        from agent.capture.queue import FrameQueue
        from agent.capture.reader import Reader
        from agent.capture.sealer import Sealer
        from agent.capture.slot import PolicySlot
        from agent.clock import boot_id, boottime_s
        from agent.frames import ChannelTable
        from agent.owner import presence, register
        from agent.owner.presence import Presence
        from agent.owner.slot import KEY as PEOPLE
        from agent.owner.slot import OwnerSlot
        from agent.policy import consent_file
        from agent.region import load_region_card
        from agent.service import ownership
        from agent.service.installer import Installer
        from agent.service.places import Places
        from agent.service.policy_fetch import PolicyFetch
        from agent.service.trial import Probation
        from agent.vault.identity import Identity
        from agent.vault.keys import load_ledger_key
        from agent.vault.vault import Vault

        card = load_region_card(config.region_card)
        zones_key = config.vehicle.zones_key
        self._config, self._region = config, card.region
        boot = boot_id()
        identity = Identity(
            region=card.region,
            vehicle=config.vehicle.id,
            ledger_key=load_ledger_key(config.vehicle.ledger_key.file()),
            receipt_keys=card.receipt_keys,
            cosign_keys=card.cosign_keys,
            region_key=card.recipient_key,
            owner_key=None,
            epoch=ownership.present(config).number,
        )
        self.vault = Vault.open(
            config.state,
            identity=identity,
            now=_read_clocks,
            rng=os.urandom,
            boot_id=boot,
            version=__version__,
            quota_bytes=config.spool_bytes,
        )
        ownership.complete(config, self.vault, identity)
        people, epoch = config.state / register.FILE, identity.epoch
        self.presence = Presence(
            config.run / presence.NAME,
            people,
            epoch,
            boottime_s=boottime_s,
            now_ns=lambda: self.vault.trusted()[0],
            rng=os.urandom,
        )
        self.fetch = PolicyFetch(
            config.policy,
            Installer(config.path),
            enabled=bool(card.policy_root),
            now_ns=lambda: self.vault.trusted()[0],
        )
        self._queue = FrameQueue(config.queue_frames)
        self._channels = ChannelTable()
        self._early, self._askers = early, askers
        self._identity, self._boot_id = identity, boot
        self._feed = LiveFeed()
        self.readers: list[Reader] = []
        self.last_status: dict[str, Any] | None = None
        self.is_parting = False  # a transfer was begun: the next start completes it
        self.sealer = Sealer(
            vault=self.vault,
            queue=self._queue,
            readers=self.readers,
            channels=self._channels,
            slot=PolicySlot(config.policy, card.region),
            moment=self.vault.moment,
            around=Surroundings(
                gate=gate.GateFile(config.run / gate.NAME),
                limits=limits.Limits(config.run / limits.NAME, boot),
                consents=config.state / consent_file.FILE,
                zones=Places(zones_key.file() if zones_key else None, card.region),
                rng=os.urandom,
                boot_id=boot,
                version=__version__,
                owners=OwnerSlot(
                    people,
                    epoch,
                    self.presence,
                    remembered=self.vault.remembered(PEOPLE),
                    remember=partial(self.vault.remember, PEOPLE),
                ),
                live=self._feed,
            ),
            trial=Probation(config.policy, boot),
        )

    def start(self, crew: Crew) -> None:
        """Open the buses, the hatch and the live socket, start the threads, say READY.

        Raises:
            InlandError: a bus whose settings cannot be used, or a socket that is taken.
        """
        from agent.hatch import HatchServer
        from agent.service.answers import Answers

        for number, bus in enumerate(self._config.buses):
            self.readers.append(self._reader(number, bus))
        answers = self._answers = Answers(
            self._config,
            self._region,
            vault=self.vault,
            sealer=self.sealer,
            queue=self._queue,
            readers=self.readers,
            fetch=self.fetch,
            presence=self.presence,
        )
        crew.start("policy", self.fetch.step)
        self._config.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        hatch = HatchServer(
            self._config.hatch,
            answers,
            allowed_uids=self._askers,
            visitors=frozenset({"status"}),
            reserved={"presence": frozenset({0, os.geteuid()})},
        )
        crew.run("hatch", lambda: hatch.serve(crew.stop))
        crew.run("live", partial(self._live_server().run, crew.stop))
        for reader in self.readers:
            reader.open_now()
            crew.start(f"read-{reader.name}", reader.step)
        notify("READY=1")

    def _live_server(self) -> LiveServer:
        from agent.service.live import LiveServer
        from agent.service.live_reader import Car
        from agent.vault.cpu import read_aead

        who = self._identity
        car = Car(who.vehicle, who.region, who.epoch, self._boot_id, read_aead())
        return LiveServer(self._config.live, self._feed, car, rng=os.urandom, moment=_read_clocks)

    def _reader(self, number: int, bus: Bus) -> Any:
        from agent.capture.bus import open_bus
        from agent.capture.reader import Reader

        def open_it() -> Any:
            # The early socket serves the first opening; a bus that went away is opened anew.
            return open_bus(
                {**bus.settings, "name": bus.name},
                self._channels,
                early=self._early.pop(bus.name, None),
            )

        return Reader(
            number,
            bus.name,
            open_it,
            self._queue,
            patient=_is_log(bus),
            notice=self.sealer.notice,
        )

    def work(self, crew: Crew, *, once: bool) -> None:
        """Seal until the crew stops, or until the logs are over and receipted."""
        from agent.service import ownership

        watchdog = Watchdog()
        while not crew.stop.is_set():
            if ownership.is_pending(self._config):
                self.is_parting = True
                return
            wait_s = self.sealer.step()
            for refusal in self.fetch.take_refusals():
                self.vault.record(refusal)
            if crew.healthy():
                watchdog.beat()
            if once and self.sealer.drained:
                if not sum(self.vault.status().pending.values()):
                    self.last_status = self._answers.status()
                    return
                wait_s = POLL_S
            self.sealer.wait(crew.stop, wait_s)

    def end(self, crew: Crew, *, clean: bool) -> None:
        """Join the threads, seal what is left, close the spool; raises what ended a thread."""
        notify("STOPPING=1")
        try:
            try:
                crew.join()
            finally:  # also if a thread failed: what was read before is kept
                self.fetch.close()
                for reader in self.readers:
                    reader.close()
                if clean:
                    self.sealer.finish()
        finally:
            self._feed.close()
            self.vault.close(clean=clean)
