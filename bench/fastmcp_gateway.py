"""FastMCP's own proxy, as its documentation starts it.

python -m bench.fastmcp_gateway DOWNSTREAM_URL PORT        over HTTP, to a downstream over HTTP
python -m bench.fastmcp_gateway COMMAND [ARGUMENT ...]     on stdio, to a downstream on stdio
"""

import sys

from fastmcp.server import create_proxy


def main() -> None:
    if sys.argv[1].startswith("http://"):
        proxy = create_proxy(sys.argv[1], name="fastmcp")
        proxy.run(transport="http", host="127.0.0.1", port=int(sys.argv[2]), show_banner=False, log_level="ERROR")
    else:
        downstream = {"command": sys.argv[1], "args": sys.argv[2:]}
        proxy = create_proxy({"mcpServers": {"bench": downstream}}, name="fastmcp")
        proxy.run(transport="stdio", show_banner=False, log_level="ERROR")


if __name__ == "__main__":
    main()
