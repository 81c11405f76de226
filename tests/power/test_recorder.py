"""The recorder: what it names is in the log, in order, and what it cannot describe is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.power import recording
from tests.power.recording import Operation, UnseenError, load

EVERYTHING = """
import os
folder = os.open(".", os.O_RDONLY)
os.mkdir("a")
os.mkdir("b", dir_fd=folder)
file = os.open("a/one", os.O_RDWR | os.O_CREAT)
os.write(file, b"0123456789")
os.pwrite(file, b"ab", 4)
os.writev(file, [b"x", b"yz"])
os.pwritev(file, [b"A", b"BC"], 20)
os.ftruncate(file, 22)
os.posix_fallocate(file, 0, 30)
os.fsync(file)
os.fdatasync(file)
more = os.open("a/one", os.O_WRONLY | os.O_APPEND)
os.write(more, b"end")
os.link("a/one", "a/two")
os.rename("a/one", "a/two")  # two names of one file: both stay
os.rename("a/two", "b/three")
os.replace("b", "c")
os.pwrite(file, b"!", 0)
os.close(os.open("c/three", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
os.write(os.open("c/four", os.O_WRONLY | os.O_CREAT, dir_fd=folder), b"4")
os.unlink("a/one")
os.rmdir("a")
os.fsync(folder)
with open("/dev/null", "w") as outside:
    outside.write("not here")
"""
KINDS = "DDCWWWWTASSWLRRRWCECWUUS"
THREADS = """
import os
from threading import Thread
def work(letter):
    file = os.open("shared", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(200):
        os.write(file, letter * (number % 7 + 1))
threads = [Thread(target=work, args=(bytes([65 + n]),)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
OPEN = "import os, mmap; file = os.open('f', os.O_RDWR | os.O_CREAT); os.write(file, b'1234');"
UNSEEN = {
    "mmap": OPEN + "mmap.mmap(file, 4)",
    "sendfile": OPEN + "os.sendfile(os.open('g', os.O_WRONLY | os.O_CREAT), file, 0, 4)",
    "copy_file_range": OPEN + "os.copy_file_range(file, os.open('g', 66), 4, 0)",  # RDWR, CREAT
    "O_TMPFILE": "import os; os.open('.', os.O_TMPFILE | os.O_RDWR)",
    "a move": OPEN + "os.rename('f', '../f')",
    "on s": "import os; os.symlink('/etc', 's')",
    "on f": OPEN + "os.truncate('f', 1)",
}  # fmt: skip


def run(recorder: Path, room: Path, script: str, **more: str) -> recording.Recording:
    """Record a script that works in its folder from the beginning."""
    for name in ("before", "after"):
        (room / name).mkdir()
    environment = {
        "LD_PRELOAD": str(recorder), "POWER_FOLDER": str(room / "after"),
        "POWER_LOG": str(room / "log"), **more,
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-S", "-E", "-c", script], cwd=room / "after", env=environment, check=True
    )
    return load(room)


def test_every_kind_of_operation_is_recorded_in_order(recorder, room):
    found = run(recorder, room, EVERYTHING).operations
    assert "".join(one.kind for one in found) == KINDS
    assert found[3:8] == (
        Operation("W", "a/one", offset=0, data=b"0123456789"),
        Operation("W", "a/one", offset=4, data=b"ab"),
        Operation("W", "a/one", offset=10, data=b"xyz"),
        Operation("W", "a/one", offset=20, data=b"ABC"),
        Operation("T", "a/one", offset=22),
    )
    assert found[11] == Operation("W", "a/one", offset=30, data=b"end")  # where it was appended
    assert found[16] == Operation("W", "a/one", offset=0, data=b"!")
    assert found[-1] == Operation("S", "")


def test_threads_are_recorded_in_the_order_in_which_the_disk_saw_them(recorder, room):
    """Else the log would not come to the folder as it is, which `load` compares."""
    found = run(recorder, room, THREADS).operations
    assert sum(one.kind == "W" for one in found) == 800


@pytest.mark.parametrize("what", UNSEEN)
def test_what_cannot_be_described_is_refused(recorder, room, what):
    with pytest.raises(UnseenError, match=what):
        run(recorder, room, UNSEEN[what])


def test_what_happens_behind_its_back_is_noticed(recorder, room):
    apart = "import os, subprocess; subprocess.run(['touch', 'hidden'], env={'PATH': os.defpath})"
    with pytest.raises(UnseenError, match="does not come to what is there: hidden"):
        run(recorder, room, apart)


def test_a_process_that_a_recorded_one_starts_is_recorded(recorder, room):
    assert shutil.which("touch")
    found = run(recorder, room, "import os; os.system('touch seen')", PATH=os.defpath).operations
    assert [str(one) for one in found] == ["C seen"]


def test_a_log_that_ends_in_the_middle_is_refused(recorder, room):
    run(recorder, room, EVERYTHING)
    log = room / "log"
    log.write_bytes(log.read_bytes()[:-1])
    with pytest.raises(UnseenError, match="middle of a record"):
        load(room)
