"""The program: `inland`, and `python -m agent.cli` for processes that start each other."""

import signal

# While modules load, an interrupt ends the process as it ends any program: without a traceback.
# Whoever has it ignored (nohup) keeps that.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from agent.cli.main import main

if __name__ == "__main__":
    main()
