"""The `holdfast` command. `serve` on stdio must start in milliseconds, so it alone goes past the full parser."""

import sys


def main() -> int:
    """Run the command line in `sys.argv`; the exit code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"] and sys.platform != "win32":
        from holdfast_server import shim

        if (asked := shim.parse(arguments[1:])) is not None:
            config, principal = asked
            return shim.run(config, principal)
    from holdfast_server.cli.app import app

    app()
    return 0


if __name__ == "__main__":
    sys.exit(main())
