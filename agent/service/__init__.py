"""The frame of the processes: composition, threads, stop, watchdog."""
