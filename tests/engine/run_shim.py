"""Runs the shim with an engine of the test's own: `python run_shim.py CONFIG PRINCIPAL COMMAND...` ("" for none)."""

import sys
from pathlib import Path

from holdfast_server import shim

if __name__ == "__main__":
    _, config, principal, *command = sys.argv
    sys.exit(shim.run(Path(config), principal or None, command=command))
