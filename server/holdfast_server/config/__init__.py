"""The config: a file people write, checked once and turned into frozen values.

`load` reads all of it and raises a `ConfigError` with one line per problem, ``file:line: cause; mend``; `store_of`
reads no more than where its store is.
"""

from holdfast_server.config.load import load, store_of
from holdfast_server.config.values import Config, PrincipalEntry

__all__ = ["Config", "PrincipalEntry", "load", "store_of"]
