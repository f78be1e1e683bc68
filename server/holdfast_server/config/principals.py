"""`principals`: who may call, known by the digest of a token that is never kept."""

import hashlib
import os
import stat
from pathlib import Path

from holdfast_server.config.document import Document, Where
from holdfast_server.config.places import absolute
from holdfast_server.config.problems import Findings
from holdfast_server.config.sections import Sections
from holdfast_server.config.shape import PrincipalShape
from holdfast_server.config.values import PrincipalEntry
from holdfast_store.model.values import LOCAL, Principal

SECTION = "principals"

OPERATOR = "operator"
"""The principal of the engine's own admin token."""

SHORT_TOKEN = 16
LONGEST_TOKEN_BYTES = 4096


def token_digest(token: str) -> str:
    """SHA-256 in hex: the only form in which a token is kept and compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read_principals(
    document: Document, sections: Sections, findings: Findings, folder: Path
) -> tuple[PrincipalEntry, ...]:
    """The configured principals. An id or a token that stands there twice is a problem."""
    entries: list[PrincipalEntry] = []
    line_of_id: dict[str, int] = {}
    owner_of_token: dict[str, str] = {}
    for where, shape in sections.sequence(SECTION, PrincipalShape):
        line = document.line((*where, "id"))
        if shape.id in line_of_id:
            findings.problem(
                line,
                f"the principal {shape.id!r} stands here twice",
                f"rename one (the first is on line {line_of_id[shape.id]})",
            )
        line_of_id.setdefault(shape.id, line)
        _check_id(shape.id, line, findings)
        digest = _digest(document, findings, folder, where, shape)
        if digest is not None and digest in owner_of_token:
            findings.problem(
                document.line(where),
                f"the principals {owner_of_token[digest]!r} and {shape.id!r} have the same token",
                "give each its own",
            )
        if digest is not None:
            owner_of_token.setdefault(digest, shape.id)
        principal = Principal(str(shape.id), frozenset(map(str, shape.roles)), str(shape.tenant))
        entries.append(PrincipalEntry(principal, digest))
    return tuple(entries)


def _check_id(name: str, line: int, findings: Findings) -> None:
    if name in (LOCAL.id, OPERATOR):
        findings.problem(line, f"the principal {name!r} is Holdfast's own", "choose another id")
    elif not name.isprintable() or any(character.isspace() for character in name):
        findings.problem(line, f"the principal {name!r} has spaces or control characters in its id", "remove them")


def _digest(document: Document, findings: Findings, folder: Path, where: Where, shape: PrincipalShape) -> str | None:
    if shape.token is not None and shape.token_file is not None:
        findings.problem(
            document.key_line((*where, "token_file")),
            f"the principal {shape.id!r} has both a token and a token_file",
            "keep one of them",
        )
        return None
    if shape.token_file is not None:
        line = document.line((*where, "token_file"))
        token = _read_token(absolute(shape.token_file, folder), line, findings)
    elif shape.token is not None:
        line = document.line((*where, "token"))
        token = shape.token
        if (*where, "token") not in document.expanded:
            findings.warning(
                line,
                f"the token of {shape.id!r} stands in the file itself",
                "write ${VAR}, or move it into a token_file with mode 0600",
            )
    else:
        return None
    return None if token is None else _checked(token, shape.id, line, findings)


def _checked(token: str, owner: str, line: int, findings: Findings) -> str | None:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        findings.problem(
            line, f"the token of {owner!r} is empty or has other than printable ASCII characters", "make a new one"
        )
        return None
    if len(token) < SHORT_TOKEN:
        findings.warning(
            line,
            f"the token of {owner!r} has fewer than {SHORT_TOKEN} characters and can be guessed",
            "make a longer one",
        )
    return token_digest(token)


def _read_token(path: Path, line: int, findings: Findings) -> str | None:
    """The content of a token file, without the white space around it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(LONGEST_TOKEN_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    except OSError as error:
        findings.problem(
            line,
            f"the token file {path} cannot be read: {error.strerror}",
            "create it with mode 0600, or correct the path",
        )
        return None
    if not stat.S_ISREG(status.st_mode):
        findings.problem(line, f"the token file {path} is not a plain file", "name a file")
        return None
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        findings.problem(line, f"the token file {path} belongs to somebody else", "make it yours with chown")
        return None
    if os.name == "posix" and status.st_mode & 0o077:
        findings.problem(
            line,
            f"the token file {path} has mode {stat.S_IMODE(status.st_mode):04o}: others may use it",
            f"run chmod 600 {path}",
        )
        return None
    if len(content) > LONGEST_TOKEN_BYTES:
        findings.problem(line, f"the token file {path} is too long for a token", "put one token into it")
        return None
    return content.decode("utf-8", "replace").strip()
