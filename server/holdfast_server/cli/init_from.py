"""`holdfast init --from`: a client's servers behind Holdfast, looked at first, with a way back."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from holdfast_policy.annotations import HINTS
from holdfast_policy.values import Preset
from holdfast_server.cli import client_file
from holdfast_server.cli.catalog import tool_payload, tool_table
from holdfast_server.cli.client_file import Section, replace_text
from holdfast_server.cli.client_limits import refused_by_clients
from holdfast_server.cli.clients import CLIENTS, Place, places, places_in
from holdfast_server.cli.failures import FAILED, OK, USAGE, Exit, Failure, note
from holdfast_server.cli.first_config import config_text, server_lines, token_file_of, write_token
from holdfast_server.cli.init import client_entry, indented, make_folder, refuse_folder
from holdfast_server.cli.output import print_json, printable
from holdfast_server.cli.survey import Surveyed, survey
from holdfast_server.cli.translate import OWN_NAME, Import, passed_environment, translate
from holdfast_server.config import Config, load
from holdfast_server.config.problems import ConfigProblems
from holdfast_server.config.quantities import duration_words
from holdfast_server.engine.paths import PRIVATE_FILE
from holdfast_store.model.values import Json
from holdfast_tools.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Options:
    """What `init --from` was asked for. `path` is None where the command line names none."""

    source: str
    path: Path | None
    folder: Path
    scope: str | None = None
    preset: Preset | None = None
    write: bool = False
    connect: bool = True
    force: bool = False
    as_json: bool = False


@dataclass(slots=True)
class _Found:
    """Everything that one run found out and did."""

    section: Section
    imported: Import
    path: Path
    kept_config: bool
    config: Config
    catalog: Catalog
    surveyed: tuple[Surveyed, ...]
    preset_reason: str
    entry: Json
    backup: Path | None = None
    written: bool = False
    unset: Mapping[str, str] = field(default_factory=dict)


DEFAULT_PATH = Path("holdfast.yaml")


def init_from(options: Options) -> Exit:
    """Import, look, report; with `write`, change the client's file too. FAILED where a server could not be reached."""
    section = _section(options)
    imported = translate(section.place, section.entries or {})
    if OWN_NAME in imported.kept:
        raise Failure(f"the server {OWN_NAME!r} in {section.place} cannot be imported: {imported.kept[OWN_NAME]}")
    already = bool(imported.own) and not imported.servers
    path = options.path or (_served_config(imported) if already else None) or DEFAULT_PATH
    refuse_folder(path)
    found = _look(options, section, imported, path)
    failed = [server.name for server in found.surveyed if server.state == "failed"]
    if options.write and not already:
        if failed and not options.force:
            _print(options, found)
            raise Failure(
                f"{', '.join(failed)} could not be connected, so {section.place.file} was left as it is; mend "
                f"{path}, or go on as it is with --force"
            )
        left = {name: (section.entries or {})[name] for name in imported.kept}
        found.backup = client_file.write_entry(section, {OWN_NAME: found.entry, **left})
    found.written = already or found.backup is not None
    _print(options, found)
    return FAILED if failed else OK


def undo(options: Options) -> None:
    """Put the client's servers back as they were before `--write`."""
    sections = [section for section in _sections(options) if section.own]
    if not sections:
        raise Failure(f"no entry of {options.source} starts Holdfast; there is nothing to undo")
    if len(sections) > 1:
        raise Failure(_several(sections, "start Holdfast"), USAGE)
    done = client_file.undo(sections[0])
    if options.as_json:
        print_json(
            {
                "file": str(done.file),
                "servers": list(done.servers),
                "restored_whole": done.whole,
                "backup": None if done.whole else str(done.backup),
            }
        )
        return
    print(f"{done.file} has its servers back: {', '.join(done.servers) or 'none'}")
    if not done.whole:
        print(f"What else was changed since is kept; the file as it was is {done.backup}")
    print(sections[0].place.client.restart)


# --- where the servers are ------------------------------------------------------------------------------------


def _sections(options: Options) -> Sequence[Section]:
    client = CLIENTS.get(options.source)
    file = Path(options.source)
    if client is None and not file.is_file():
        known = ", ".join(CLIENTS)
        raise Failure(f"--from {options.source}: neither one of {known}, nor a file that exists", USAGE)
    found = places(client, options.folder, os.environ) if client is not None else places_in(file)
    if options.scope is not None:
        wanted = [place for place in found if place.scope == options.scope]
        if not wanted:
            scopes = ", ".join(dict.fromkeys(place.scope for place in found))
            raise Failure(f"--scope {options.scope}: {options.source} has {scopes}", USAGE)
        found = wanted
    distinct = {(place.file, place.path): place for place in reversed(found)}  # a home may be a project too
    return [client_file.read_section(place) for place in reversed(distinct.values())]


def _section(options: Options) -> Section:
    """The one place to import from. Raises `Failure` where there is none, or several."""
    sections = _sections(options)
    filled = [section for section in sections if section.entries]
    if not filled:
        looked = "; ".join(str(section.place) for section in sections)
        raise Failure(f"there are no servers to import; looked at {looked}")
    fresh = [section for section in filled if not _only_own(section)]
    if len(fresh) > 1:
        raise Failure(_several(fresh, "have servers"), USAGE)
    return fresh[0] if fresh else filled[0]


def _only_own(section: Section) -> bool:
    return not translate(section.place, section.entries or {}).servers


def _several(sections: Sequence[Section], what: str) -> str:
    listed = "; ".join(f"--scope {s.place.scope}: {s.place}, {len(s.entries or {})} entries" for s in sections)
    return f"several scopes {what}, and each needs a config of its own; choose one ({listed})"


def _served_config(imported: Import) -> Path | None:
    """The config that the client's entry for Holdfast serves."""
    for entry in imported.own.values():
        words = [word for word in entry.get("args") or [] if isinstance(word, str)]
        after = words[words.index("serve") + 1 :] if "serve" in words else []
        named = [word for word in after if not word.startswith("-")]
        if named:
            return Path(named[0])
    return None


# --- the config, and a look at its servers --------------------------------------------------------------------


def _look(options: Options, section: Section, imported: Import, path: Path) -> _Found:
    unset = _unset(imported, os.environ)
    kept = path.exists() and not options.force
    if kept:
        config = _existing(path, imported, unset)
        if options.preset not in (None, config.preset):
            raise Failure(f"{path} exists and has the preset {config.preset.value}; change it there, or use --force")
    else:
        if not imported.servers:
            raise Failure(f"{path}, which the client's entry for Holdfast serves, does not exist; --undo goes back")
        config = _checked(path, _text(section.place, imported, path, options.preset or Preset.BALANCED), unset)
    catalog, surveyed = _survey(options, imported, config, unset)
    preset, reason = config.preset, "as the config says"
    if not kept:
        preset, reason = _preset(options.preset, catalog)
        replace_text(path, _text(section.place, imported, path, preset), PRIVATE_FILE)
    entry = _entry(section.place, imported, path)
    config = replace(config, preset=preset, path=path)
    return _Found(section, imported, path, kept, config, catalog, surveyed, reason, entry, unset=unset)


def _unset(imported: Import, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the servers need and nobody has set here, by the name of a server that needs it."""
    return {
        name: server.name
        for server in imported.servers
        for name, written in server.passed.items()
        if name not in environ and ":-" not in (written or "")
    }


def _existing(path: Path, imported: Import, unset: Mapping[str, str]) -> Config:
    """The config that is there, once it is sure that it has all the client's servers."""
    config = load(path, {**dict.fromkeys(unset, ""), **os.environ})
    configured = {spec.name for spec in config.downstreams}
    missing = {s.name: s.entry for s in imported.servers if s.name not in configured and not s.entry.get("disabled")}
    if missing:
        raise Failure(
            f"{path} exists and lacks {', '.join(missing)}; add these below its `mcpServers:`, name another file, or "
            f"overwrite it with --force:\n{server_lines(missing)}"
        )
    return config


def _text(place: Place, imported: Import, path: Path, preset: Preset) -> str:
    client = place.client
    return config_text(
        path,
        server_lines({server.name: server.entry for server in imported.servers}),
        more=f" These are those of {client.title}.",
        preset=preset,
        inline_wait_s=client.inline_wait_s,
        client=client.title,
        why=client.patience,
    )


def _checked(path: Path, text: str, unset: Mapping[str, str]) -> Config:
    """What the config at `path` would say with this text, before anything is replaced. Raises `Failure`."""
    make_folder(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    token_file = token_file_of(path)
    is_fresh = not token_file.exists()
    if is_fresh:
        write_token(token_file)
    try:
        replace_text(draft, text, PRIVATE_FILE)
        return load(draft, {**dict.fromkeys(unset, ""), **os.environ})
    except ConfigProblems as error:
        if is_fresh:
            token_file.unlink()
        causes = "\n".join(problem.at(Path(path.name)) for problem in error.problems)
        raise Failure(f"these servers make no config that can be used, and nothing was written:\n{causes}") from error
    finally:
        draft.unlink(missing_ok=True)


def _survey(
    options: Options, imported: Import, config: Config, unset: Mapping[str, str]
) -> tuple[Catalog, tuple[Surveyed, ...]]:
    not_tried: dict[str, str] = {}
    for server in imported.servers:
        needed = [name for name in server.passed if name in unset]
        if needed:
            not_tried[server.name] = f"{', '.join(needed)} is not set in this terminal"
    if not options.connect:
        not_tried = {spec.name: "--no-connect" for spec in config.downstreams}
    return survey(config, not_tried, lambda server: note(_line(server)))


def _preset(chosen: Preset | None, catalog: Catalog) -> tuple[Preset, str]:
    """The preset that lets an agent work from the first day and asks where asking can mean something."""
    if chosen is not None:
        return chosen, "chosen by you"
    tools = catalog.tools()
    hinted = [t for t in tools if any(h in (t.definition.get("annotations") or {}) for h in HINTS)]
    if tools and not hinted:
        return Preset.OBSERVE, (
            "no server says which of its tools are harmless, so balanced would ask about every call; mark tools under "
            "`tools:`, then use balanced"
        )
    return Preset.BALANCED, "read-only and non-destructive tools run, a person is asked about the rest"


def _entry(place: Place, imported: Import, path: Path) -> Json:
    """The client's entry for Holdfast, with the variables that the servers refer to."""
    entry: Json = {"type": "stdio"} if place.client.typed else {}
    entry |= client_entry(path)
    environment = passed_environment(place.client, imported.servers)
    if environment:
        entry["env"] = environment
    return entry


# --- telling it -----------------------------------------------------------------------------------------------


def _line(server: Surveyed) -> str:
    if server.state == "connected":
        return f"{server.name}: connected in {server.took_s:.1f} s, {server.tools} tools"
    tail = "".join(f"\n  {printable(line)}" for line in server.stderr_tail[-5:])
    words = f"\nits last words:{tail}" if tail else ""
    return f"{server.name}: {server.state}: {printable(server.reason)}{words}"


def _warnings(found: _Found) -> list[str]:
    place = found.section.place
    told = [f"{server.original_name}: {text}" for server in found.imported.servers for text in server.notes]
    told += [f"{name}: stays with {place.client.title}: {why}" for name, why in found.imported.kept.items()]
    told += [
        f"{name} is not set here, and {server} needs it; "
        + ("the entry below hands it on" if name in found.entry.get("env", {}) else "set it where the client starts")
        for name, server in found.unset.items()
    ]
    told += [
        f"{about}: {text}"
        for about, text in refused_by_clients([tool.name for tool in found.catalog.tools()], place.client)
    ]
    told += [
        f"{tool.name}: its outputSchema is broken, so its results are not checked: {tool.output_problem}"
        for tool in found.catalog.tools()
        if tool.output_problem is not None
    ]
    told += [f"set aside: {entry.canonical}: {entry.reason}" for entry in found.catalog.set_aside()]
    if place.client.tool_prefix and found.imported.servers:
        before, after = (place.client.tool_prefix.format(server=name) for name in ("git", OWN_NAME))
        told.append(f"tools get new names, {before}status becomes {after}git__status: mend your permission rules")
    if place.scope == "project":
        told.append(f"{place.file} may be shared with others, for whom the paths in this entry are wrong")
    return told


def _payload(found: _Found) -> Json:
    place = found.section.place
    return {
        "client": place.client.name,
        "scope": place.scope,
        "source": str(place.file),
        "config": str(found.path),
        "config_kept": found.kept_config,
        "token_file": str(token_file_of(found.path)),
        "preset": found.config.preset.value,
        "preset_reason": found.preset_reason,
        "inline_wait_s": found.config.inline_wait_s,
        "servers": [asdict(server) for server in found.surveyed],
        "left_with_client": dict(found.imported.kept),
        "tools": [tool_payload(found.config, tool) for tool in found.catalog.tools()],
        "warnings": _warnings(found),
        "entry": _nested(place.path, {OWN_NAME: found.entry}),
        "written": found.written,
        "backup": str(found.backup) if found.backup else None,
    }


def _nested(path: Sequence[str], value: Json) -> Json:
    for key in reversed(path):
        value = {key: value}
    return value


def _print(options: Options, found: _Found) -> None:
    if options.as_json:
        print_json(_payload(found))
        return
    print("\n\n".join(_paragraphs(options, found)))


def _paragraphs(options: Options, found: _Found) -> list[str]:
    place, config = found.section.place, found.config
    count = len(found.imported.servers)
    head = (
        f"Kept {found.path}, which has all servers of {place}"
        if found.kept_config
        else f"Wrote {found.path} (mode 0600), with the {count} server{'s' if count != 1 else ''} of {place}\n"
        f"      {token_file_of(found.path)} (mode 0600: the approver's token)"
    )
    tools = tool_table(config, found.catalog.tools()) if found.catalog.tools() else "no tools were seen"
    chosen = (
        f"preset: {config.preset.value} ({found.preset_reason})\n"
        f"inline_wait: {duration_words(config.inline_wait_s)} ({place.client.patience})"
    )
    warnings = "\n".join(f"warning: {text}" for text in _warnings(found))
    return [part for part in (head, tools, chosen, warnings, _ending(options, found)) if part]


def _ending(options: Options, found: _Found) -> str:
    place = found.section.place
    back = f"holdfast init --from {options.source}" + (f" --scope {options.scope}" if options.scope else "")
    if found.written:
        kept = f"; the file as it was is {found.backup}" if found.backup else " already"
        return f"{place.file} starts Holdfast{kept}.\n{place.client.restart}\nTo go back: {back} --undo"
    entry: dict[str, Any] = _nested(place.path, {OWN_NAME: found.entry})
    return (
        f"Paste this into {place.file} in place of the servers you moved, or have it done with --write:\n\n"
        f"{indented(json.dumps(entry, indent=2, ensure_ascii=False))}\n\n{place.client.restart}"
    )
