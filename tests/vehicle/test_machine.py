"""QEMU and its helpers as processes of this computer: nothing of them outlives a runner."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.rig import wait_for
from tests.vehicle.test_guest import processes

HELPERS = ("qemu-system-x86_64", "swtpm", "nbdkit")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_a_runner_that_ends_takes_qemu_and_its_helpers_along(
    qemu: None, image: Path, payload: Path, tmp_path: Path, number: signal.Signals
):
    """The machine is on, and nobody waits for the end of its boot."""
    script = f"""
        import sys
        from pathlib import Path
        from tests.vehicle.guest import Guest
        from tests.vehicle.machine_qemu import Qemu
        machine = Qemu(usb_serial=True, tpm=Path({str(tmp_path)!r}), cache="volatile")
        guest = Guest(Path({str(image)!r}), Path({str(payload)!r}), machine=machine)
        try:
            guest._launch()
            assert machine.ask("query-status")["running"]
            print(guest.folder, flush=True)
            sys.stdin.read()
        finally:
            guest.close()
    """
    runner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2], text=True,
    )  # fmt: skip
    with runner:
        assert runner.stdout is not None
        mark = runner.stdout.readline().strip()
        running = processes(mark)
        for name in HELPERS:
            assert any(name in line for line in running), (name, running)
        runner.send_signal(number)
        runner.wait(30)
    wait_for(lambda: not processes(mark), 30, "its processes gone")
