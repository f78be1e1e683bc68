"""`holdfast config reload`: has the engine go by the file as it is now, and says what changed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from holdfast_server.cli.failures import OK, USAGE, Exit, complain
from holdfast_server.cli.output import fields, print_json
from holdfast_server.cli.remote import ask, existing
from holdfast_server.engine.client import engine_alive
from holdfast_store.model.errors import ConfigError
from holdfast_store.model.values import Json


def reload(config: Path, as_json: bool) -> Exit:
    """Reload, and print what changed; USAGE where the file has problems, OK where no engine is there to take it.

    Raises `AccessDenied` and `EngineError` as every command that asks the engine.
    """
    if engine_alive(existing(config)) is None:
        if as_json:
            print_json({"running": False, "reloaded": False, "problems": []})
        else:
            print("no engine is running; the next one starts with the config as it is")
        return OK
    try:
        found = ask(config, "engine_reload", {}, start=False)
    except ConfigError as error:
        if as_json:
            print_json({"running": True, "reloaded": False, "problems": str(error).splitlines()})
        else:
            complain(str(error))
        return USAGE
    if as_json:
        print_json({"running": True, "reloaded": True, "problems": [], **found})
    else:
        print(_words(config, found))
    return OK


def _words(config: Path, found: Json) -> str:
    return fields(
        (
            ("config", f"{config} is in force" if found["changed"] else f"{config} is in force; nothing changed"),
            ("servers", "\n".join(_named(found["downstreams"]))),
            ("rules", "\n".join(_named(found["rules"]))),
            ("principals", "\n".join(_named(found["principals"]))),
            ("settings", "\n".join(found["settings"])),
            ("warnings", "\n".join(found["warnings"])),
        )
    )


def _named(section: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What became of the names in one section, a line for each fate."""
    return (f"{fate}: {', '.join(names)}" for fate, names in section.items() if names)
