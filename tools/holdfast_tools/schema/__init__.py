"""Input schemas: compiled once per tool, checked on every call, and put in words that a model can act on."""

from holdfast_tools.schema.canonical import canonical, digest_of, fingerprint
from holdfast_tools.schema.compiled import BrokenSchema, ToolSchema
from holdfast_tools.schema.wording import Problem

__all__ = ["BrokenSchema", "Problem", "ToolSchema", "canonical", "digest_of", "fingerprint"]
