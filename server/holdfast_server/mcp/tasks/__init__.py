"""Calls as tasks: the extension of 2026-07-28 and the core tasks of 2025-11-25, over one table of states."""
