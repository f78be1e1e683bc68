"""The entry of a detached engine: `python -m holdfast_server.engine CONFIG`."""

import sys
from pathlib import Path

from holdfast_server.engine.loading import loading


def main(arguments: list[str]) -> int:
    """Run the engine of the config that `arguments` name; the exit code, 2 where trying again is of no use."""
    if len(arguments) != 1:
        print("usage: python -m holdfast_server.engine CONFIG", file=sys.stderr)
        return 2
    with loading():
        from holdfast_server.engine.run import main_detached
    return main_detached(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
