"""`python -m agent.cli`: the same as `inland`, for processes that start each other."""

from agent.cli.main import main

if __name__ == "__main__":
    main()
