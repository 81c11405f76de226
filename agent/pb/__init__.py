"""Generated from proto/agent/pb by `python -m tests.proto`; never edited by hand."""
