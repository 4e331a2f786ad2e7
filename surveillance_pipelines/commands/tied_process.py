"""Run a program that ends when its parent process ends: ``python -m … PARENT_PID PROGRAM ARGUMENTS…``."""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Request SIGTERM for the parent's death from the kernel, then execute the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        # Nothing else ends the daemon of a command that was killed by SIGKILL.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
