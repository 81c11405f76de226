"""The car's TPM 2.0 as a counter that only rises, by tpm2-tools.

- One NV index of the type counter, 8 bytes. Nobody can set it back: an index that is undefined and
  defined again begins above every value that any counter of this TPM ever had.
- It keeps a number, no key: the car has no key that opens what was stored.
- Each call is a process of its own that ends within 20 s.

Source: TPM 2.0 Library, part 1, "NV counters"; tpm2_nvdefine(1), tpm2_nvincrement(1).
"""

from __future__ import annotations

import subprocess
from typing import Final

from agent.errors import ConfigError, TpmError

INDEX: Final = "0x01804E4C"  # in the range that the owner of the platform hands out
_ATTRIBUTES: Final = "ownerread|ownerwrite|authread|authwrite|no_da|nt=counter"
_DEADLINE_S: Final = 20


class Tpm:
    """One TPM.

    Args:
        tcti: how tpm2-tools reach it: "device:/dev/tpmrm0".
    """

    def __init__(self, tcti: str) -> None:
        self._tcti = tcti

    def found(self) -> int:
        """Return the counter's value, making it if need be; raises TpmError, ConfigError."""
        if not self.is_defined():
            self._run("tpm2_nvdefine", "-C", "o", "-s", "8", "-a", _ATTRIBUTES, INDEX)
        try:
            return self.read()
        except TpmError:  # defined and never raised: that is no value yet
            return self.increment()

    def is_defined(self) -> bool:
        """Return whether the TPM answers and has the counter; raises TpmError, ConfigError."""
        listed = self._run("tpm2_getcap", "handles-nv-index").decode("ascii", "replace")
        return int(INDEX, 16) in {
            int(word, 16) for word in listed.split() if word.lower().startswith("0x")
        }

    def read(self) -> int:
        """Return the counter's value; raises TpmError, ConfigError."""
        data = self._run("tpm2_nvread", "-C", INDEX, "-s", "8", INDEX)
        if len(data) != 8:
            raise TpmError(f"the counter has {len(data)} bytes", where=self._tcti)
        return int.from_bytes(data, "big")

    def increment(self) -> int:
        """Raise the counter by one and return its value; raises TpmError, ConfigError."""
        self._run("tpm2_nvincrement", "-C", INDEX, INDEX)
        return self.read()

    def _run(self, tool: str, *words: str) -> bytes:
        try:
            done = subprocess.run(
                [tool, "-T", self._tcti, *words], capture_output=True, timeout=_DEADLINE_S,
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError:
            raise ConfigError(f"{tool} is not there", where="vehicle.tpm",
                              todo="apt-get install tpm2-tools") from None  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TpmError(f"{tool} does not end: {error}", where=self._tcti) from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            what = next((one for one in said if one.startswith("ERROR:")), "no word of why")
            raise TpmError(f"{tool}: {what.removeprefix('ERROR:').strip()}", where=self._tcti,
                           todo="is the TPM there, and free?")  # fmt: skip
        return done.stdout
