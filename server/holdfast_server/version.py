"""The version of this installation. A literal, which the package's metadata is made from: the shim knows it at once."""

VERSION = "0.1.0"
