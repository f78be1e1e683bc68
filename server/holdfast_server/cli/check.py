"""`holdfast config check`: whether a file can be used, and what is odd about it."""

import os
from pathlib import Path

from holdfast_server.cli.failures import OK, USAGE, Exit, complain
from holdfast_server.cli.output import fields, print_json
from holdfast_server.config import Config, load
from holdfast_server.config.problems import ConfigProblems, Problem
from holdfast_store.model.values import Json

SHORTEST_SECRET = 4
"""Shorter values are no secrets, and stand in too many words."""


def check(path: Path, as_json: bool) -> Exit:
    """Print what `path` says, or everything that is wrong with it."""
    try:
        config = load(path, os.environ)
    except ConfigProblems as error:
        if as_json:
            print_json(
                {"ok": False, "problems": [_problem(path, problem) for problem in error.problems], "warnings": []}
            )
        else:
            complain(str(error))
        return USAGE
    if as_json:
        print_json({"ok": True, "problems": [], "warnings": list(config.warnings), "config": summary(config)})
        return OK
    print(fields(_summary_words(config)))
    for warning in config.warnings:
        print(f"warning: {warning}")
    return OK


def _problem(path: Path, problem: Problem) -> Json:
    return {"file": str(path), "line": problem.line or None, "cause": problem.cause, "mend": problem.mend}


def summary(config: Config) -> Json:
    """What a config says, without any secret."""
    return {
        "path": str(config.path),
        "sha256": config.digest,
        "store": config.store_url,
        "preset": config.preset.value,
        "downstreams": [
            {"name": spec.name, "reached_by": masked(spec.describe(), config), "identity": spec.identity}
            for spec in config.downstreams
        ],
        "rules": [{"id": rule.id, "effect": rule.effect.value, "when": rule.when} for rule in config.rules],
        "tool_patterns": [pattern.glob for pattern in config.patterns],
        "principals": [
            {"id": entry.principal.id, "roles": sorted(entry.principal.roles), "tenant": entry.principal.tenant}
            for entry in config.principals
        ],
        "variables": sorted(config.variables),
    }


def masked(text: str, config: Config) -> str:
    """`text` with the values of the config's variables written as references again: what they hold may be secret."""
    values = {name: os.environ.get(name, "") for name in config.variables}
    for name, value in sorted(values.items(), key=lambda item: -len(item[1])):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"${{{name}}}")
    return text


def _summary_words(config: Config) -> list[tuple[str, str]]:
    return [
        ("config", f"{config.path} can be used"),
        (
            "servers",
            "\n".join(f"{spec.name}: {masked(spec.describe(), config)}" for spec in config.downstreams) or "none",
        ),
        ("preset", config.preset.value),
        ("rules", "\n".join(f"{rule.id}: {rule.effect}" for rule in config.rules) or "none"),
        (
            "principals",
            "\n".join(
                f"{entry.principal.id}: {', '.join(sorted(entry.principal.roles)) or 'no roles'}"
                for entry in config.principals
            )
            or "none: callers are local",
        ),
        ("store", config.store_url),
        ("variables", ", ".join(sorted(config.variables))),
    ]
