"""Bytes to lines, in linear time and bounded memory. Standard library only."""

KEPT_BYTES = 1024
"""What is kept of each end of a line that is too long: enough to tell which request it was."""


class Overlong(bytes):
    """The beginning and the end of a line that was too long to be kept."""


class LineBuffer:
    """Collects chunks; gives back whole lines, each with its newline.

    Of a line with more than `limit` bytes only an `Overlong` is given; without a limit there is none.
    """

    __slots__ = ("_limit", "_partial", "_size")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._partial: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, in order."""
        first, *others = chunk.split(b"\n")
        self._add(first)
        if not others:
            return []
        lines = [self._take()]
        for part in others[:-1]:
            self._add(part)
            lines.append(self._take())
        self._add(others[-1])
        return lines

    def rest(self) -> bytes:
        """What came after the last newline; the buffer is empty then."""
        rest = b"".join(self._partial)
        self._partial, self._size = [], 0
        return rest

    @property
    def _too_long(self) -> bool:
        return self._limit is not None and self._size > self._limit

    def _add(self, part: bytes) -> None:
        self._partial.append(part)
        self._size += len(part)
        if self._too_long:
            kept = b"".join(self._partial)
            self._partial = [kept[:KEPT_BYTES], kept[KEPT_BYTES:][-KEPT_BYTES:]]

    def _take(self) -> bytes:
        too_long, line = self._too_long, b"".join((*self._partial, b"\n"))
        self._partial, self._size = [], 0
        return Overlong(line) if too_long else line
