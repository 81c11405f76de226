"""Which AEAD this computer does fast: AES-256-GCM with AES instructions, else ChaCha20-Poly1305.

Without AES instructions table-driven AES is slow and leaks through the cache's timing.
"""

from __future__ import annotations

from pathlib import Path

from agent.vault.session import AES_256_GCM, CHACHA20_POLY1305


def aead_for(cpuinfo: str) -> int:
    """Return the AEAD id for the text of /proc/cpuinfo (x86 "flags", ARM "Features")."""
    for line in cpuinfo.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return AES_256_GCM if "aes" in words.split() else CHACHA20_POLY1305
    return CHACHA20_POLY1305


def read_aead() -> int:
    """Return the AEAD id for this computer; ChaCha20-Poly1305 if it cannot be told."""
    try:
        return aead_for(Path("/proc/cpuinfo").read_text("ascii", errors="replace"))
    except OSError:
        return CHACHA20_POLY1305
