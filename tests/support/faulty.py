"""The installed `holdfast` in a process whose disk gets in its way.

    python faulty.py [--file-bytes N] [--pages FILE] [--powerless] ARGUMENT ...

``--file-bytes`` is the largest file that the process may write (RLIMIT_FSIZE; whoever started it can raise that).
``--pages`` names a file with the largest number of pages that the store may have, read anew for each transaction.
``--powerless`` takes from root what lets it ignore the modes of files, so that it is refused as anybody else is.
"""

import argparse
import ctypes
import os
import resource
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast_server.__main__ import main

CAPABILITY_VERSION = 0x20080522
IGNORE_MODES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def give_up_power() -> None:
    """Obey the modes of files from now on, even as root. Raises `OSError`."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    data = (_Capabilities * 2)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    data[0].effective &= ~IGNORE_MODES
    data[0].permitted &= ~IGNORE_MODES
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def limited(pages: Path) -> type[sqlite3.Connection]:
    """Connections that take no more pages than the file `pages` says at the beginning of each transaction."""

    class Limited(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                super().execute(f"PRAGMA max_page_count = {int(pages.read_text())}").fetchall()
            return super().execute(sql, *rest)

    return Limited


def limit_pages(pages: Path) -> None:
    """Have all connections of this process that are opened from now on mind `pages`."""
    open_connection: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(*given: Any, **options: Any) -> sqlite3.Connection:
        return open_connection(*given, factory=limited(pages), **options)

    sqlite3.connect = connect  # type: ignore[assignment]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--file-bytes", type=int)
    parser.add_argument("--pages", type=Path)
    parser.add_argument("--powerless", action="store_true")
    options, arguments = parser.parse_known_args()
    if options.file_bytes is not None:
        # Else half a compiled module could be left where everybody imports it from.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_bytes, resource.RLIM_INFINITY))
    if options.pages is not None:
        limit_pages(options.pages)
    if options.powerless and os.geteuid() == 0:
        give_up_power()
    sys.argv[1:] = arguments
    sys.exit(main())
