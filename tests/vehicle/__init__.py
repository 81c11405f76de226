"""The car's computer in a box: a Debian guest with systemd and real SocketCAN, and its tests."""
