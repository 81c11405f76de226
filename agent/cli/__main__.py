"""What `inland` and `python -m agent.cli` run: the CAN sockets first, the command line after.

Importing click costs as much time as everything that `inland capture` needs before its sockets are
bound. So they are bound here, before it. The boot service runs this file by its path and with -S:
the modules behind `-m`, and whatever the .pth files of an installation import, would come first.
"""

# The part of signal that is written in C: the rest imports enum. typeshed has no stub of it.
import _signal  # type: ignore[import-not-found]
import sys

# While modules load, an interrupt ends the process as it ends any program: without a traceback.
# Whoever has it ignored (nohup) keeps that.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def start() -> None:
    """Run the command line and exit."""
    sockets = None
    if sys.argv[1:2] == ["capture"]:
        from agent.service.sockets import bind_sockets

        sockets = bind_sockets(sys.argv[2:])
    if sys.flags.no_site:
        import site

        site.main()
    from agent.cli.main import main

    main(sockets)


if __name__ == "__main__":
    if not __package__:  # run by its path
        sys.path.append(__file__.rpartition("/agent/cli/")[0])
    start()
