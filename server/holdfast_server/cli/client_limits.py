"""What known clients refuse: names that are too long for them, and too many tools."""

from collections.abc import Iterator, Sequence

from holdfast_server.cli.clients import CURSOR, VS_CODE, Client
from holdfast_server.cli.translate import OWN_NAME
from holdfast_server.mcp.handles import DEFINITIONS

LONGEST_NAME = 64
"""Characters of a tool's name that models' interfaces take."""

LONGEST_NAME_IN_CURSOR = 60
"""Characters of the name of the client's entry and of the tool's, together."""

MOST_TOOLS_IN_VS_CODE = 128
"""Tools of all servers that VS Code passes on in one request."""

_MEND = "shorten the server's name, or give the tool a `name` under `tools:`"


def refused_by_clients(names: Sequence[str], client: Client | None = None) -> Iterator[tuple[str, str]]:
    """What `client`, or any of the known ones, would refuse of these tools: what it is about, and a sentence."""
    for name in names:
        if len(name) > LONGEST_NAME:
            yield f"tool {name}", f"its name has {len(name)} characters, and most clients take {LONGEST_NAME}; {_MEND}"
        elif client in (None, CURSOR) and len(OWN_NAME) + len(name) > LONGEST_NAME_IN_CURSOR:
            together = len(OWN_NAME) + len(name)
            yield (
                f"tool {name}",
                f"its name and that of the entry {OWN_NAME!r} have {together} characters together, and Cursor leaves "
                f"out tools with more than {LONGEST_NAME_IN_CURSOR}; {_MEND}",
            )
    count = len(names) + len(DEFINITIONS)
    if client in (None, VS_CODE) and count > MOST_TOOLS_IN_VS_CODE:
        yield (
            "tools",
            f"there are {count} with Holdfast's own, and VS Code passes on {MOST_TOOLS_IN_VS_CODE} of all its servers; "
            "serve fewer servers in one config, or choose tools in VS Code",
        )
