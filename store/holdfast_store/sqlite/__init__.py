"""The store on SQLite: one file, one writer, any number of readers.

Below `store.py` everything is synchronous and takes a `sqlite3.Connection` and the time: `apply.apply_batch` is all
of the writing, `reads` all of the reading. Threads and asyncio exist only in `connection`, `committer` and `store`.
"""
