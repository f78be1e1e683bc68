"""FastMCP's own proxy, as its documentation starts it.

python -m bench.fastmcp_gateway DOWNSTREAM_URL PORT        over HTTP
python -m bench.fastmcp_gateway DOWNSTREAM_URL             on stdio
"""

import sys

from fastmcp.server import create_proxy


def main() -> None:
    proxy = create_proxy(sys.argv[1], name="fastmcp")
    if len(sys.argv) > 2:
        proxy.run(transport="http", host="127.0.0.1", port=int(sys.argv[2]), show_banner=False, log_level="ERROR")
    else:
        proxy.run(transport="stdio", show_banner=False, log_level="ERROR")


if __name__ == "__main__":
    main()
