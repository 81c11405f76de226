"""Opening buses by python-can's configuration keys."""

import subprocess
import sys

import can
import numpy as np
import pytest

from agent.capture import bus as bus_module
from agent.capture.bus import open_bus
from agent.capture.general import GeneralBus
from agent.errors import BusError, ConfigError
from agent.frames import BRS, ERROR, EXTENDED, FD, FRAME_FD, REMOTE, ChannelTable


def test_virtual_bus_gives_batches() -> None:
    bus = open_bus(
        {"interface": "virtual", "channel": "test-general", "name": "can4"}, ChannelTable()
    )
    with can.Bus(interface="virtual", channel="test-general") as sender:
        sender.send(can.Message(arbitration_id=0x123, is_extended_id=False, data=b"abc"))
        sender.send(can.Message(arbitration_id=0x1ABCDEF0, data=b""))
        sender.send(
            can.Message(arbitration_id=7, is_extended_id=False, is_remote_frame=True, dlc=4)
        )
        sender.send(can.Message(arbitration_id=0x80, is_error_frame=True))
        sender.send(
            can.Message(arbitration_id=8, is_fd=True, bitrate_switch=True, data=bytes(range(20)))
        )
        batch = bus.recv_batch(1)
    assert batch.dtype == FRAME_FD
    assert batch["arbitration_id"].tolist() == [0x123, 0x1ABCDEF0, 7, 0x80, 8]
    assert batch["flags"].tolist() == [0, EXTENDED, REMOTE, ERROR, EXTENDED | FD | BRS]
    assert batch["length"].tolist() == [3, 0, 4, 0, 20]
    assert batch["data"][0][:3].tobytes() == b"abc"
    assert batch["data"][4][:20].tolist() == list(range(20))
    assert (batch["timestamp_ns"] > 10**18).all()
    assert len(bus.recv_batch(0.0)) == 0
    assert (bus.losses(), bus.ended, bus.name) == ([], False, "can4")
    bus.close()
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.recv_batch(0)


def test_configured_filters_apply() -> None:
    filters = [{"can_id": 5, "can_mask": 0x7FF}]
    bus = open_bus(
        {"interface": "virtual", "channel": "test-filter", "can_filters": filters}, ChannelTable()
    )
    with can.Bus(interface="virtual", channel="test-filter") as sender:
        for number in (4, 5, 6):
            sender.send(can.Message(arbitration_id=number, is_extended_id=False))
        assert bus.recv_batch(1)["arbitration_id"].tolist() == [5]
    bus.close()


class FailingBus:
    """Gives some messages, then fails as a driver does."""

    def __init__(self, count: int) -> None:
        self.count = count

    def recv(self, timeout):
        if not self.count:
            raise can.CanOperationError("bus is off")
        self.count -= 1
        return can.Message(arbitration_id=1, timestamp=0.0)

    def shutdown(self) -> None:
        pass


def test_failing_driver_delivers_first_and_fails_then() -> None:
    bus = GeneralBus(FailingBus(2), "can0", ChannelTable(), clock_ns=lambda: 99)
    assert bus.recv_batch(1)["timestamp_ns"].tolist() == [99, 99]
    with pytest.raises(BusError, match="bus is off"):
        bus.recv_batch(1)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "interface"),
        ({"interface": "socketcan"}, "needs `channel`"),
        ({"interface": "slcan", "channel": ""}, "needs `channel`"),
        ({"interface": "socketcan", "channel": "can0", "bitrat": 5}, "'bitrat'"),
        ({"interface": "no-such-interface", "channel": "x"}, "no-such-interface"),
        ({"interface": "log", "channel": "x.log", "sped": 1}, "'sped'"),
    ],
)
def test_wrong_settings_are_named(settings, text) -> None:
    with pytest.raises(ConfigError, match=text):
        open_bus(settings, ChannelTable())


def test_missing_socketcan_interface_is_a_bus_error() -> None:
    with pytest.raises(BusError, match="nocan99"):
        open_bus({"interface": "socketcan", "channel": "nocan99"}, ChannelTable())


def test_every_bus_keeps_the_protocol() -> None:
    """Also for mypy: each class is assigned to the Protocol in open_bus."""
    names = [name for name in dir(bus_module.BatchBus) if not name.startswith("_")]
    for name in names:
        if name not in ("name", "ended"):
            assert callable(getattr(GeneralBus, name))
    assert np.zeros(0, FRAME_FD).dtype == FRAME_FD


def test_replay_and_logs_load_nothing_of_the_network() -> None:
    code = (
        "import sys, agent.capture.logbus, agent.capture.bus;"
        "assert not {'ssl', 'paho', 'can'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
