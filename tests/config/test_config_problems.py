"""Everything that can be wrong with a config file: each problem on its line, with its cause and its mend."""

import os
from pathlib import Path

import pytest

from holdfast_server.config import load
from holdfast_server.config.problems import ConfigProblems
from holdfast_store.model.errors import ConfigError

SERVER = "mcpServers:\n  git: {command: mcp-server-git}\n"

TABLE = {
    # --- the file itself
    "an empty file": ("", 1, "the file holds no settings", "begin with `mcpServers:`, or run `holdfast init`"),
    "a list": ("- a\n", 1, "the file holds no settings", "begin with `mcpServers:`"),
    "broken YAML": ("mcpServers:\n  git: {command: x\n", 3, "not YAML", "check the quotes, brackets and indentation"),
    "a tab": ("mcpServers:\n\tgit: {}\n", 2, "cannot start any token", "indent with spaces, not tabs"),
    "an unquoted variable within braces": (
        "mcpServers:\n  git: {command: ${X}}\n",
        2,
        "not YAML",
        'put the value in quotes: "${NAME}"',
    ),
    "a bad escape": ('a: "\\UFFFFFFFF"\n', 1, "not YAML", "correct the escape sequence"),
    "a NUL": (SERVER + "\0", 3, "a character that YAML does not allow", "remove it"),
    "two documents": (SERVER + "---\n" + SERVER, 3, "not YAML: but found another document", "check"),
    "a tag": ("mcpServers: !!set {a: null}\n", 1, "means nothing here", "remove it"),
    "an alias of itself": ("mcpServers: &a {b: *a}\n", 1, "too large or endless", "write the values out"),
    "a merge key": (SERVER + "tools:\n  <<: {}\n", 4, "merge keys (<<) are not supported", "write the keys out"),
    "a key that is no text": (SERVER + "? [a]\n: 1\n", 3, "a key must be a text", "write a name before the colon"),
    "a key twice": (
        SERVER + "preset: strict\npreset: balanced\n",
        4,
        "the key 'preset' stands here twice",
        "the first is on line 3",
    ),
    "a server twice": (
        SERVER + "  git: {command: other}\n",
        3,
        "the key 'git' stands here twice",
        "the first is on line 2",
    ),
    "one name for several tools": (
        SERVER + 'tools:\n  "git__*": {name: git}\n',
        4,
        "'git__*' fits several tools, and a name is for one",
        "name the tool",
    ),
    "a name of Holdfast's own": (
        SERVER + 'tools:\n  "git__log": {name: holdfast__log}\n',
        4,
        "clients cannot use the name 'holdfast__log'",
        "at most 64",
    ),
    "a bound below a preview": (SERVER + "limits: {max_result_bytes: 10}\n", 3, "must be at least 8192", "correct it"),
    # --- keys
    "no servers": ("preset: strict\n", 1, "there is no mcpServers", "add `mcpServers:`"),
    "a misspelt section": (SERVER + "rulez: []\n", 3, "unknown key 'rulez'", "did you mean 'rules'?"),
    "a misspelt key of a server": (
        "mcpServers:\n  git:\n    command: x\n    arg: []\n",
        4,
        "unknown key 'arg' in mcpServers.git",
        "did you mean 'args'?",
    ),
    "a misspelt key of a tool": (
        SERVER + 'tools:\n  "git__*":\n    idempotent: true\n',
        5,
        "unknown key 'idempotent' in tools.git__*",
        "known are",
    ),
    "a misspelt hint": (
        SERVER + 'tools:\n  "*":\n    annotations:\n      readonlyhint: true\n',
        6,
        "unknown key 'readonlyhint'",
        "did you mean 'readOnlyHint'?",
    ),
    "a misspelt key of a match": (
        SERVER + "rules:\n  - id: a\n    effect: deny\n    match:\n      tols: x\n",
        7,
        "unknown key 'tols' in rules[0].match",
        "did you mean 'tool'?",
    ),
    "a rule without effect": (SERVER + "rules:\n  - id: a\n", 4, "rules[0] has no 'effect'", "add effect: ..."),
    "telemetry": (SERVER + "telemetry: {}\n", 3, "does not have telemetry export", "remove the key"),
    "grants": (SERVER + "grants: []\n", 3, "does not have standing grants", "remove the key"),
    "log_only": (
        SERVER + "rules:\n  - id: a\n    effect: deny\n    mode: log_only\n",
        6,
        "does not have `mode: log_only`",
        "what happens now is 'enforce'",
    ),
    "cancel: forward": (
        SERVER + 'tools:\n  "*": {cancel: forward}\n',
        4,
        "does not have `cancel: forward`",
        "what happens now is 'keep'",
    ),
    # --- values
    "a wrong preset": (
        SERVER + "preset: blanced\n",
        3,
        "expected one of observe, balanced, strict, found the text 'blanced'",
        "write one",
    ),
    "a bare number as duration": (
        SERVER + "inline_wait: 4\n",
        3,
        "expected a duration such as 30s, 10m or 4h",
        "say which unit: 4s?",
    ),
    "a wordy duration": (SERVER + "inline_wait: 4 seconds\n", 3, "found the text '4 seconds'", "write one"),
    "a duration of nothing": (SERVER + "engine: {idle_exit: 0s}\n", 3, "longer than nothing", "write a longer one"),
    "a duration without end": (SERVER + "retention: {journal: 9999999d}\n", 3, "longer than ten years", "shorter"),
    "yes": (SERVER + "naming: {prefix: yes}\n", 3, "expected true or false, found the text 'yes'", "write true"),
    "a number as text": (
        "mcpServers:\n  git: {command: 5}\n",
        2,
        "mcpServers.git.command: expected a text, found the number 5",
        "correct it",
    ),
    "a text as list": (
        "mcpServers:\n  git: {command: x, args: y}\n",
        2,
        "expected a list, found the text 'y'",
        "correct",
    ),
    "a list as section": (SERVER + "tools: []\n", 3, "tools: expected a mapping, found a list", "correct it"),
    "a mapping as rules": (SERVER + "rules: {a: 1}\n", 3, "rules: expected a list, found a mapping", "correct it"),
    "a fraction of a byte": (
        SERVER + "limits: {max_arguments_bytes: 1.5}\n",
        3,
        "expected a whole number, found the number 1.5",
        "correct it",
    ),
    "a tiny limit": (SERVER + "limits: {max_arguments_bytes: 1}\n", 3, "must be at least 1024", "correct it"),
    "a very long number": (SERVER + f"limits: {{max_arguments_bytes: {'9' * 5000}}}\n", 3, "is too long", "shorten it"),
    "no attempts": (SERVER + 'tools:\n  "*": {retries: {max_attempts: 0}}\n', 4, "must be at least 1", "correct it"),
    "an unknown order": (SERVER + 'tools:\n  "*": {order: up}\n', 4, "expected on, off or {by: POINTER}", "write one"),
    "an order by nothing": (SERVER + 'tools:\n  "*": {order: {}}\n', 4, "on, off or {by: POINTER}", "write one"),
    "a pointer without a slash": (
        SERVER + 'tools:\n  "*": {order: {by: contact_id}}\n',
        4,
        "tools.*.order.by: expected a JSON pointer such as /contact_id, found the text 'contact_id'",
        "write /contact_id",
    ),
    "a pointer with a bare tilde": (
        SERVER + 'tools:\n  "*": {order: {by: "/a~b"}}\n',
        4,
        "expected a JSON pointer",
        "write ~0 for ~",
    ),
    "an unknown key of an order": (
        SERVER + 'tools:\n  "*": {order: {buy: /a}}\n',
        4,
        "unknown key 'buy' in tools.*.order",
        "did you mean 'by'?",
    ),
    "payloads shorter than replay": (
        SERVER + "retention:\n  payload: 1h\n",
        4,
        "payload is shorter than replay",
        "at least as long as replay",
    ),
    # --- variables
    "a variable that is not set": (
        "mcpServers:\n  git:\n    command: x\n    env:\n      TOKEN: ${HOLDFAST_TEST_UNSET}\n",
        5,
        "the environment variable HOLDFAST_TEST_UNSET is not set",
        "set it, or write ${HOLDFAST_TEST_UNSET:-default}",
    ),
    "an editor's variable": (
        "mcpServers:\n  git: {command: x, args: ['${env:HOME}']}\n",
        2,
        "'${env:HOME}' is not a variable reference",
        "write ${NAME}",
    ),
    "a reference without end": ("mcpServers:\n  git: {command: 'x${A'}\n", 2, "is not a variable reference", "write"),
    # --- servers
    "command and url": (
        "mcpServers:\n  a: {command: x, url: 'http://x'}\n",
        2,
        "both a command and a url",
        "one of them",
    ),
    "neither": ("mcpServers:\n  a: {}\n", 2, "neither a command nor a url", "give it one of them"),
    "no entry": ("mcpServers:\n  a:\n", 2, "expected a mapping, found nothing", "correct it"),
    "args of a url": (
        "mcpServers:\n  a:\n    url: http://x\n    args: []\n",
        4,
        "'args' does not go with 'url'",
        "remove one of the two",
    ),
    "a url that is none": ("mcpServers:\n  a: {url: 'x.example/mcp'}\n", 2, "is not an http address", "write http://"),
    "a broken url": ("mcpServers:\n  a: {url: 'http://[x'}\n", 2, "is not an http address", "write http://"),
    "a header of two lines": (
        'mcpServers:\n  a: {url: "http://x", headers: {A: "b\\nc"}}\n',
        2,
        "not a header of one line",
        "remove line breaks",
    ),
    "a variable's name with =": (
        "mcpServers:\n  a: {command: x, env: {'A=B': c}}\n",
        2,
        "cannot name an environment variable",
        "rename it",
    ),
    "the reserved name": ("mcpServers:\n  holdfast: {command: x}\n", 2, "'holdfast' is reserved", "rename the server"),
    "a name with spaces": (
        "mcpServers:\n  Google Drive: {command: x}\n",
        2,
        "cannot stand in tool names",
        "rename it to 'Google_Drive'",
    ),
    "a name with the separator": ("mcpServers:\n  a__b: {command: x}\n", 2, "cannot stand in tool names", "to 'a_b'"),
    "an endless name": (f"mcpServers:\n  {'a' * 51}: {{command: x}}\n", 2, "longer than 50 characters", "shorten it"),
    # --- the store
    "PostgreSQL": (
        SERVER + "store: postgresql://host/db\n",
        3,
        "this version of Holdfast does not have PostgreSQL",
        "use sqlite:///path/state.db",
    ),
    "a bare path as store": (SERVER + "store: state.db\n", 3, "not an address Holdfast knows", "write sqlite:///"),
    "a store in memory": (
        SERVER + "store: 'sqlite:///:memory:'\n",
        3,
        "stores in memory are not supported",
        "name a file",
    ),
    "a store without file": (SERVER + "store: sqlite:///\n", 3, "names no file", "write sqlite:///"),
    "a store that is relative by accident": (
        SERVER + "store: sqlite://state.db\n",
        3,
        "a relative path must begin with ./",
        "write sqlite://./state.db",
    ),
    # --- tools and trust
    "settings of own tools": (
        SERVER + 'tools:\n  "holdfast__*": {strict: true}\n',
        4,
        "Holdfast's own tools",
        "remove it",
    ),
    "rules on own tools": (
        SERVER + "rules:\n  - {id: a, effect: allow, match: {tool: holdfast__get_task}}\n",
        4,
        "Holdfast's own tools",
        "remove it",
    ),
    "trust in nobody": (
        SERVER + "trust_annotations: {gti: []}\n",
        3,
        "there is no server 'gti'",
        "did you mean 'git'?",
    ),
    "trust in what is no hint": (
        SERVER + "trust_annotations:\n  git:\n    - readOnly\n",
        5,
        "unknown hint 'readOnly'",
        "did you mean 'readOnlyHint'?",
    ),
    "trust in all": (SERVER + "trust_annotations: {git: true}\n", 3, "expected a list of hints, found true", "write ["),
    # --- policy
    "a condition that is none": (
        SERVER + "rules:\n  - id: a\n    effect: deny\n    when: args.x >\n",
        4,
        "rule 'a': in `when`",
        "correct the rule",
    ),
    "a condition on nothing": (
        SERVER + "rules:\n  - {id: a, effect: deny, when: arg.x > 1}\n",
        4,
        "rule 'a': in `when`",
        "did you mean args?",
    ),
    "two rules of one id": (
        SERVER
        + "rules:\n  - {id: a, effect: deny, when: args.x == 1}\n  - {id: a, effect: allow, when: args.y == 1}\n",
        5,
        "rule 'a': 2 rules have this id",
        "give each its own",
    ),
    "a rule nobody can satisfy": (
        SERVER + "rules:\n  - id: a\n    effect: require_approval\n    approval: {roles: [finance]}\n",
        4,
        "nobody can approve: no principal holds finance",
        "",
    ),
    "a quorum of more than there are": (
        SERVER + "approval_defaults:\n  min: 5\n",
        4,
        "nobody can approve: it needs 5 people",
        "ask for fewer",
    ),
    "terms of a rule that asks nobody": (
        SERVER + "rules:\n  - {id: a, effect: deny, approval: {min: 1}}\n",
        4,
        "it has approval terms",
        "remove them",
    ),
    "nobody's role": (SERVER + "approval_defaults: {roles: []}\n", 3, "must not be empty", "correct it"),
    # --- principals
    "a principal twice": (
        SERVER + "principals:\n  - id: a\n  - id: a\n",
        5,
        "the principal 'a' stands here twice",
        "the first is on line 4",
    ),
    "a token twice": (
        SERVER + "principals:\n  - {id: a, token: ttttttttttttttttt}\n  - {id: b, token: ttttttttttttttttt}\n",
        5,
        "'a' and 'b' have the same token",
        "give each its own",
    ),
    "two tokens": (
        SERVER + "principals:\n  - {id: a, token: t, token_file: f}\n",
        4,
        "both a token and a token_file",
        "keep one",
    ),
    "a token with spaces": (
        SERVER + "principals:\n  - {id: a, token: 't t'}\n",
        4,
        "printable ASCII",
        "make a new one",
    ),
    "no token file": (
        SERVER + "principals:\n  - {id: a, token_file: missing}\n",
        4,
        "cannot be read: No such file",
        "create it with mode 0600",
    ),
    "the operator": (
        SERVER + "principals:\n  - id: operator\n",
        4,
        "'operator' is Holdfast's own",
        "choose another id",
    ),
    "an id with spaces": (SERVER + "principals:\n  - id: a b\n", 4, "has spaces", "remove them"),
}


@pytest.mark.parametrize(("text", "line", "cause", "mend"), TABLE.values(), ids=TABLE.keys())
def test_each_problem_names_its_line_its_cause_and_its_mend(
    tmp_path: Path, text: str, line: int, cause: str, mend: str
) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_text(text)
    with pytest.raises(ConfigProblems) as caught:
        load(file, {"HOME": str(tmp_path)})
    matching = [p for p in caught.value.problems if p.line == line and cause in p.cause and mend in p.mend]
    assert matching, str(caught.value)
    assert matching[0].at(file) in str(caught.value).splitlines()
    assert str(caught.value).startswith(f"{file}:")


def test_all_problems_of_a_file_are_reported_together_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_text(
        "mcpServers:\n  a b: {command: x}\n  c: {url: nowhere}\npreset: loose\nrules:\n"
        "  - {id: r, effect: deny, when: 'args.'}\n  - {id: s, efect: deny}\nprincipals: [{id: local}]\nstore: x\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {"HOME": str(tmp_path)})
    lines = [int(problem.removeprefix(f"{file}:").partition(":")[0]) for problem in str(caught.value).splitlines()]
    assert lines == sorted(lines)
    assert set(lines) == {2, 3, 4, 6, 7, 8, 9}


def test_a_file_that_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; correct the path, or run `holdfast init"):
        load(tmp_path / "none.yaml", {})


def test_a_file_that_is_not_utf8_says_on_which_line(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_bytes(b"mcpServers: {}\n# \xff\n")
    with pytest.raises(ConfigError, match=r"holdfast\.yaml:2: not UTF-8; save the file as UTF-8"):
        load(file, {})


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    token_file = tmp_path / "anna.token"
    token_file.write_text("0123456789abcdef0123456789abcdef")
    token_file.chmod(0o640)
    file = tmp_path / "holdfast.yaml"
    file.write_text(SERVER + "principals:\n  - id: anna\n    token_file: anna.token\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {"HOME": str(tmp_path)})
    assert f"{file}:5: the token file {token_file} has mode 0640: others may use it; run chmod 600" in str(caught.value)
    token_file.chmod(0o600)
    assert load(file, {"HOME": str(tmp_path)}).principals[0].token_sha256 is not None


def test_a_token_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token_file = tmp_path / "anna.token"
    token_file.write_text("0123456789abcdef0123456789abcdef")
    token_file.chmod(0o600)
    owner = token_file.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    file = tmp_path / "holdfast.yaml"
    file.write_text(SERVER + "principals: [{id: anna, token_file: anna.token}]\n")
    with pytest.raises(ConfigError, match="belongs to somebody else; make it yours with chown"):
        load(file, {"HOME": str(tmp_path)})


def test_a_value_out_of_a_variable_is_never_repeated_in_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.yaml"
    file.write_text(SERVER + "preset: ${SECRET}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {"HOME": str(tmp_path), "SECRET": "hunter2hunter2"})
    assert "hunter2" not in str(caught.value)
