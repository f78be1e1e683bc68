"""Bytes to lines, in linear time however long a line is. Standard library only."""


class LineBuffer:
    """Collects chunks; gives back whole lines, each with its newline."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, in order."""
        first, *others = chunk.split(b"\n")
        self._partial.append(first)
        if not others:
            return []
        last = others.pop()
        lines = [b"".join(self._partial) + b"\n", *(line + b"\n" for line in others)]
        self._partial = [last]
        return lines

    def rest(self) -> bytes:
        """What came after the last newline; the buffer is empty then."""
        rest = b"".join(self._partial)
        self._partial = []
        return rest
