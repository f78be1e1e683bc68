"""`holdfast serve`, for what the fast path of stdio does not take."""

import sys
from pathlib import Path

from holdfast_server.cli.failures import USAGE, Failure
from holdfast_server.engine.loading import loading


def serve(config: Path, http: str | None, principal: str | None, in_process: bool) -> int:
    """Serve `config` in the way that the options ask for, until the client or a signal ends it; the exit code."""
    if http is not None and (in_process or principal is not None):
        other = "--in-process" if in_process else "--as"
        raise Failure(f"--http and {other} do not go together; over HTTP the bearer token says who calls", USAGE)
    if http is not None:
        host, port = address(http)
        with loading():
            from holdfast_server.engine.run_http import serve_http
        return serve_http(config, host, port)
    if in_process or sys.platform == "win32":
        with loading():
            from holdfast_server.engine.run import serve_in_process
        return serve_in_process(config, principal)
    from holdfast_server import shim

    return shim.run(config, principal)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT, :PORT or PORT as host and port; the host is loopback where none is named. Raises `Failure`."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Failure(f"--http {text!r} is ambiguous; write an IPv6 host in brackets, as in [::1]:8000", USAGE)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise Failure(f"--http {text!r} names no port; write HOST:PORT, as in 127.0.0.1:8000", USAGE)
    return host or "127.0.0.1", int(port)
