"""What `inland` and `python -m agent.cli` run: the CAN sockets first, the command line after.

Importing click costs as much time as everything that `inland capture` needs before its sockets are
bound. So they are bound here, before it.
"""

import signal
import sys

# While modules load, an interrupt ends the process as it ends any program: without a traceback.
# Whoever has it ignored (nohup) keeps that.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start() -> None:
    """Run the command line and exit."""
    sockets = None
    if sys.argv[1:2] == ["capture"]:
        from agent.service.sockets import bind_sockets

        sockets = bind_sockets(sys.argv[2:])
    from agent.cli.plain import plain

    half = plain(sys.argv[1:], sockets)
    if half is not None:
        from agent.cli.ending import code_of

        sys.exit(code_of(half))
    from agent.cli.main import main

    main(sockets)


if __name__ == "__main__":
    start()
