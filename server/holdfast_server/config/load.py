"""From a file to a `Config`: read it, find everything that is wrong with it at once, fill in the defaults."""

import os
from collections.abc import Mapping
from pathlib import Path

from holdfast_policy.values import ApprovalTerms
from holdfast_server.config.document import Document, Unreadable, Where
from holdfast_server.config.places import store_url
from holdfast_server.config.policy import check_rules, read_rules, terms
from holdfast_server.config.principals import read_principals
from holdfast_server.config.problems import ConfigProblems, Findings, Problem
from holdfast_server.config.sections import Sections
from holdfast_server.config.servers import SECTION as SERVERS
from holdfast_server.config.servers import read_servers
from holdfast_server.config.shape import ApprovalShape, EngineShape, LimitsShape, NamingShape, RetentionShape
from holdfast_server.config.tools import read_patterns, read_trust
from holdfast_server.config.values import Config
from holdfast_server.config.variables import Variables
from holdfast_server.engine.hello import config_digest, variable_digests
from holdfast_store.contract import Retention
from holdfast_tools.downstream.spec import Isolation

MAX_FILE_BYTES = 4 * 1024 * 1024


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The config at `path`, with `environ` for its variables and for the state folder.

    Raises `ConfigProblems` (a `ConfigError`) with every problem of the file.
    """
    findings = Findings()
    content, text = _read(path)
    document = _document(path, text, Variables(environ), findings)
    config = _config(path, content, document, findings, environ)
    if findings.problems:
        raise ConfigProblems(path, findings.problems)
    return config


def store_of(path: Path, environ: Mapping[str, str] | None = None) -> str:
    """Only the store's address in the config at `path`: listings need no more, and no downstream's secrets.

    `environ` is this process's by default. Raises `ConfigProblems` where the file cannot be read or `store` is wrong.
    """
    environ = os.environ if environ is None else environ
    findings = Findings()
    _, text = _read(path)
    document = _document(path, text, Variables(environ), findings)
    top = Sections(document, Findings()).top_level()
    url = store_url(top.store, path.resolve(), environ, document, findings)
    findings.problems.extend(problem for where, problem in document.unexpanded if where == ("store",))
    if findings.problems:
        raise ConfigProblems(path, findings.problems)
    return url


def _document(path: Path, text: str, variables: Variables, findings: Findings) -> Document:
    """The file as data, a mapping. Raises `ConfigProblems` where it is none."""
    try:
        document = Document(text, findings, expand=variables.expand, verbatim=_is_verbatim)
    except Unreadable:
        raise ConfigProblems(path, findings.problems) from None
    if not isinstance(document.data, dict):
        if not findings.problems:
            findings.problem(1, "the file holds no settings", f"begin with `{SERVERS}:`, or run `holdfast init`")
        raise ConfigProblems(path, findings.problems)
    return document


def _read(path: Path) -> tuple[bytes, str]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        mend = f"correct the path, or run `holdfast init {path}`"
        raise ConfigProblems(path, [Problem(0, "there is no such file", mend)]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigProblems(path, [Problem(0, f"cannot be read: {reason}", "name a file you may read")]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigProblems(path, [Problem(0, f"larger than {MAX_FILE_BYTES} bytes", "name a config file")])
    try:
        return content, content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigProblems(path, [Problem(line, "not UTF-8", "save the file as UTF-8")]) from None


def _is_verbatim(where: Where) -> bool:
    """`env`, `args` and `headers` hold texts, whatever they look like."""
    return len(where) == 4 and where[0] == SERVERS and where[2] in ("env", "args", "headers")


def _config(path: Path, content: bytes, document: Document, findings: Findings, environ: Mapping[str, str]) -> Config:
    place = path.resolve()
    sections = Sections(document, findings)
    top = sections.top_level()
    servers = read_servers(document, sections, findings, place.parent)
    left_out = {(SERVERS, name) for name in servers.disabled}
    findings.problems.extend(problem for where, problem in document.unexpanded if where[:2] not in left_out)
    defaults = terms(sections.section("approval_defaults", ApprovalShape), ApprovalTerms())
    rules = read_rules(document, sections, findings, servers.names, defaults)
    principals = read_principals(document, sections, findings, place.parent)
    listed = document.data.get("principals") or []
    complete = isinstance(listed, list) and len(listed) == len(principals)
    known = [entry.principal for entry in principals] if complete else None
    check_rules(document, findings, top.preset, rules, defaults, known)
    patterns = read_patterns(document, sections, findings, servers.names)
    trust = read_trust(document, sections, findings, servers.names)
    limits = sections.section("limits", LimitsShape)
    url = store_url(top.store, place, environ, document, findings)
    isolation: Isolation = "principal" if len(principals) > 1 else "shared"
    return Config(
        path=path,
        digest=config_digest(content),
        downstreams=servers.isolated_by_default(isolation),
        store_url=url,
        preset=top.preset,
        rules=tuple(rule for _, rule in rules),
        approval_defaults=defaults,
        patterns=patterns,
        trust=trust,
        prefix=sections.section("naming", NamingShape).prefix,
        inline_wait_s=top.inline_wait,
        principals=principals,
        retention=_retention(document, sections, findings),
        idle_exit_s=sections.section("engine", EngineShape).idle_exit,
        max_arguments_bytes=limits.max_arguments_bytes,
        max_result_bytes=limits.max_result_bytes,
        answer_within_s=limits.answer_within,
        variables=variable_digests(content, environ),
        warnings=tuple(warning.at(path) for warning in sorted(set(findings.warnings))),
    )


def _retention(document: Document, sections: Sections, findings: Findings) -> Retention:
    shape = sections.section("retention", RetentionShape)
    for shorter, longer in (("replay", "payload"), ("payload", "journal")):
        if getattr(shape, shorter) > getattr(shape, longer):
            findings.problem(
                document.line(("retention", longer)),
                f"retention: {longer} is shorter than {shorter}, which needs it",
                f"make {longer} at least as long as {shorter}",
            )
    return Retention(
        replay_s=shape.replay,
        tombstone_s=shape.tombstone,
        undispatched_s=shape.undispatched,
        payload_s=shape.payload,
        journal_s=shape.journal,
    )
