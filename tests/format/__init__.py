"""The format, checked from outside: a second decoder, and vectors that must not change."""
