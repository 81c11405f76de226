"""Power cuts: inland's own code is recorded, and the power is cut at every operation.

    recorder.c   preloaded into a process, writes down what it does to files below one folder
    child.py     that process: runs workloads (preloaded.py is the recorder seen from inside)
    recording.py builds the recorder, starts the process, reads the log and checks it
    disk.py      the model: what a power cut can leave after each operation
    cuts.py      every cut, and the look at what is left
    workloads.py how a workload is written; on_*.py are the workloads with their checks and bugs
    vaults.py    what must be true of a vault after a cut

By hand: `python -m tests.power NAME...` cuts workloads everywhere and prints what breaks; a NAME is
as in child.py ("spool_in_use", "policies+floor_after_the_switch", "withdrawal@6").

What it does not see is in agent/SECURITY.md.
"""
