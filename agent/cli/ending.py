"""How a command ends: one line on standard error, and an exit code. Without click.

Every failure that a user can act on is an InlandError, which carries its exit code. Anything else
is our own mistake and is said to be one.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from agent.errors import InlandError

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it


def code_of(run: Callable[[], object]) -> int:
    """Run a command; return its exit code.

    Args:
        run: the command; a number that it returns is the code.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __main__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A worker thread a core for matrix products is memory that nothing here ever uses.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = run()
    except InlandError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the machine said no: the name of the file is in the message
        _say(f"error: {error}")
        return 75
    return code if isinstance(code, int) else 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
