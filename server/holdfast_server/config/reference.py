"""`docs/configuration.md`, printed from the shapes: every key with its default and what it is for.

python -m holdfast_server.config.reference > docs/configuration.md
"""

import re
from collections.abc import Iterator

from holdfast_policy.annotations import HINTS
from holdfast_server.config.quantities import duration_words
from holdfast_server.config.servers import FOREIGN_KEYS
from holdfast_server.config.shape import SHAPES, Shape, default_words
from holdfast_tools.downstream.breaker import BreakerTerms
from holdfast_tools.downstream.budget import BudgetTerms

INTRODUCTION = """\
# Configuration

A config is one YAML file, of which JSON is a part: the `mcpServers` that you have in your client's config is a valid
Holdfast config as it stands. `holdfast init` writes a first one, `holdfast config check CONFIG` checks one and shows
every problem at once, each as `file:line: cause; mend`. A config that cannot be used ends every command with exit
code 2, before anything is started.

```yaml
mcpServers:
  git:
    command: uvx
    args: [mcp-server-git, --repository, /srv/repository]
  payments:
    url: https://payments.example/mcp
    headers: {Authorization: "Bearer ${PAYMENTS_TOKEN}"}

preset: balanced

rules:
  - id: refunds-over-100
    match: {tool: "payments__refund"}
    when: args.amount > 100
    effect: require_approval
    reason: Refunds over 100 need finance
    approval: {roles: [finance], expires_in: 4h, execute_within: 15m}

tools:
  "payments__*": {timeout: 30s, key_argument: reference}

principals:
  - {id: anna, token_file: anna.token, roles: [finance, approver]}
```

## How values are written

- **Durations** have a unit: `500ms`, `30s`, `10m`, `4h`, `7d`, `1h30m`. A bare number is refused, because among MCP
  clients it means seconds here and milliseconds there.
- **Variables**: `${NAME}` is the environment variable's value, and an error where it is not set;
  `${NAME:-default}` gives the default where it is unset or empty. They work in all texts, also within `args`, `env` and
  `headers`, and may stand for a number or for true and false. `$${` is a literal `${`. Within `{...}` put the value in
  quotes: `{Authorization: "${TOKEN}"}`.
- **Texts** by YAML 1.2: only `true` and `false` are booleans; `yes`, `no`, `on` and `off` are texts. Values in `env`,
  `args` and `headers` are taken as they are written: `PORT: 08080` is the text `08080`.
- **Paths** that are relative, and a missing `cwd`, mean the folder of the config, never the client's.
- **Globs** match the whole of `server__tool`, whatever `naming` says: `*` any text, `?` one character, `[ab]` one of
  these. Upper and lower case differ. They never match Holdfast's own tools, `holdfast__...`.
- **Lists of one** may be written without brackets where roles are due: `roles: finance`.
- Anchors and aliases work; tags and merge keys (`<<`) do not. A key that stands twice is an error.
"""

NAMES = """\
The name of a server begins the names of its tools, so it has letters, digits, `-` and single `_` only, at most 50
characters. `holdfast` is reserved.
"""

ISOLATION = """\
### Who shares a server's process

A child process, and a session of a protocol version before 2026-07-28, may hold state: a browser, a working directory,
a login. `isolation` says whether two principals may meet there.

- `shared`: every call goes over one connection, and so to one process. What one principal left there, the next one
  finds.
- `principal`: each principal has a session of its own for all its calls, for a `command` a process of its own. It
  costs one process more per principal and server, and its start at that principal's first call; the first process
  remains, for listings.

In both, a client that can be asked in the midst of a call (for input, for its model, for its roots) has sessions of its
own at a server of such a version, because what that asks names no call: each serves one call at a time, the first one
whenever it is free, and so calls that follow each other meet the same state. At most `max_sessions` are open. One
that nobody uses is ended when another principal or client needs its place, or after 30 minutes, and its state with it.
Endpoints (`url`) that speak 2026-07-28 have no sessions: nothing is shared there, and nothing needs to be isolated.
"""

OVERLOAD = """\
### Servers that are slow, or do not answer

One server in trouble must not be the trouble of others, nor be kept in it by calls that cannot succeed.

- **Places**: at most `max_concurrency` calls of a server are under way at once. The next ones wait in its queue, first
  come first served, and hold no place of another server. Who waits is admitted: the call is stored, has a handle after
  `inline_wait`, and outlives a restart. When `max_queue` calls wait, a new one is turned away with an error that says
  in how many seconds to come back; nothing ran, and its key is free. A repeat of a call that is stored is still
  answered by that one. What was approved, or is tried again, waits and is never turned away.
- **Circuit breaker**: when FAILURES answers in a row were lost (the connection ended, or `timeout` was over; a tool's
  error is an answer), nothing is sent any more. New calls fail at once and say when the server is tried again; calls in
  the queue wait. After FIRST one call is let through. Answered, it ends that; lost, the pause doubles, up to LONGEST.
  All pauses are shortened by up to a half at random. All calls that are lost when a connection ends are one loss. While
  a server cannot be connected at all, that is tried again at growing intervals instead.
- **Retry budget**: what is sent again (lost answers of tools that are safe to repeat, `retries`) is bounded for each
  server: SHARE of what it answers and RATE per second, of which CAPACITY can be saved. When that is used up, a
  call fails and says so instead.

`holdfast doctor` shows all three for each server, `holdfast calls show` what a call waited for.
"""

ORDER = """\
### Calls in order

Calls of a tool run beside each other, unless its `order` says that they form lines. A line runs its calls one at a
time, in the order in which they were queued: when they were asked for, or, where people decide, when they were
approved. What is parked keeps nobody waiting.

```yaml
tools:
  ledger__append: {order: on}                  # all calls of the tool, one after the other
  crm__update_contact:
    order: {by: /contact_id}                   # calls for the same contact, one after the other
  crm__update_*: {deadline: 5m}                # who waits longer than that is not sent any more
```

A line is a tenant's: what the pointer leads to is compared within one tool of one server and one tenant, as JSON, so
`1` and `"1"` differ, and so do `1` and `1.0`. Calls without a value there, or with null, form a line of their own.
Where the tool's schema names no such argument `holdfast doctor` warns, because then all its calls do.

- A call holds its line until it has ended, also while it pauses between attempts, waits for input, or is a task of
  its server. A call **in doubt** does not: nobody knows when that ends, and its effect may still come beside the next
  call's. When an admin has it tried again, it joins the end of the line.
- Who waits for its turn takes no place at its server. At most `max_queue` new calls wait so; one more that would have
  to is turned away, and calls of other lines are not.
- A repeat is answered by the call that it repeats, wherever that stands. `deadline` and `execute_within` go on while a
  call waits; one that runs out says for which call it waited.
- Reads in order are stored before they are sent, as with `journal: strict`.
- A changed `order` counts from the next call on: who waits stays in its line.

The order is kept by the store, in the commit that claims a call: an engine that is killed loses nobody's place.
`holdfast tools` shows which tools have an order, `holdfast calls show` for whom a call waited, and how long.
"""

TRUST = """\
## Trust in annotations

`trust_annotations` maps a server to the hints whose every value is believed: `{payments: [readOnlyHint]}`; an empty
list believes none. For a server that it does not name, `readOnlyHint: true` and `destructiveHint: false` are believed,
because a server that lies about its own tools could do harm anyway, and nothing else is. `tools: ... annotations`
overrides both. The hints are HINTS.
"""

MERGING = """\
All entries whose glob fits a tool apply to it, the one with the fewest literal characters first; later ones override
single keys.
"""

COMBINING = """\
All rules that match count: deny beats require_approval beats allow, in whatever order they stand. Where none matches
the preset decides. A rule whose `when` does not fit a tool's schema makes that tool ask; `holdfast tools` and
`holdfast doctor` show it. `holdfast policy explain CONFIG TOOL --args JSON` says what happens to a call, and why.
"""

PRINCIPALS = """\
Callers on stdio are `local`, without roles, unless `serve --as ID` names a principal. Over HTTP every caller needs a
token as soon as there is one principal; `principals: []` is the same as none. Tokens are compared by their SHA-256.
The engine's own `admin.token` belongs to `operator`, with the roles `approver` and `admin`; `local` and `operator`
cannot be configured.
"""

RELOADING = """\
## Changing a running engine

An engine goes by the file as it was when it read it. `holdfast config reload CONFIG`, the admin tool `engine_reload`
and SIGHUP have it read the file again; no waiting call and no client's connection is dropped for it. The file is read
and checked as a whole first: where anything is wrong, nothing changes, and the problems are told as at a start (after
a signal in the log, and by `holdfast doctor` until a reload succeeds).

- **`mcpServers`**: new servers are started, and those whose entry is the same are not touched. One that is gone, or
  whose entry differs in anything, is sent nothing more; its process or connection stays until the calls sent to it
  are answered, at most 10 s, and what is unanswered then is in doubt. What replaces a process is started when that
  has ended. Waiting calls end where their server is gone, or has another command, arguments, folder, names of
  variables or url; where only values of `env` or `headers` differ, they wait on. Calls in doubt stay.
- **`rules`, `preset`, `approval_defaults`** count for new calls at once, and for parked ones when they are approved
  and when they start. A call that is parked already stays so.
- **`principals`**: a token that is gone is refused from the next request on, on open connections as well, and so is
  a connection of `serve --as ID` whose principal is gone. Other roles count from the next request on. What a
  principal asked for before goes on.
- **`tools`, `trust_annotations`, `naming`, `inline_wait`, `limits`, `retention`, `engine`** count from the next
  call on.
- **`store`** is refused: it needs `holdfast engine restart CONFIG`. So does taking away the last principal where
  HTTP is served beyond loopback.

Clients are told of changed lists once, and only where a list differs. Variables are those of the engine's own
environment: a changed `${NAME}` needs a restart from an environment that has the new value. A changed `token_file` is
read again. SIGHUP is also what a closing terminal sends: an engine in the foreground outlives its terminal.
"""

_BEFORE = {
    "mcpServers.NAME": NAMES,
    "tools.GLOB": MERGING,
    "rules[]": COMBINING,
    "principals[]": PRINCIPALS,
}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for shape in SHAPES:
        parts.append("\n".join(_section(shape)))
        if shape.place == "mcpServers.NAME":
            parts.append(_foreign())
            parts.append(ISOLATION)
            parts.append(_overload())
        if shape.place == "tools.GLOB.order":
            parts.append(ORDER)
        if shape.place == "tools.GLOB.retries":
            parts.append(TRUST.replace("HINTS", ", ".join(f"`{hint}`" for hint in HINTS)))
    return "\n".join((*parts, RELOADING))


def documented_keys() -> Iterator[tuple[str, str]]:
    """Every key as (section, name)."""
    for shape in SHAPES:
        for key in shape.model_fields:
            yield shape.place, key


def _section(shape: type[Shape]) -> Iterator[str]:
    yield f"## {shape.title}"
    yield ""
    if shape.place:
        yield f"`{shape.place}`: {_first_lower(shape.__doc__ or '')}"
        yield ""
    if shape.place in _BEFORE:
        yield _BEFORE[shape.place]
    yield "| key | default | what it does |"
    yield "|---|---|---|"
    for key, info in shape.model_fields.items():
        yield f"| `{key}` | {default_words(shape, key)} | {_cell(info.description or '')} |"
    yield ""


def _foreign() -> str:
    names = ", ".join(f"`{key}`" for key in sorted(FOREIGN_KEYS, key=str.casefold))
    return (
        "Keys that MCP clients keep in the same place are accepted, reported as warnings, and without effect here: "
        f"{names}. Only `disabled: true` (and `enabled: false`, `isActive: false`) counts: such a server is left out.\n"
    )


def _overload() -> str:
    breaker, budget = BreakerTerms(), BudgetTerms()
    figures = {
        "FAILURES": f"{breaker.failures_to_open}",
        "FIRST": duration_words(breaker.first_pause_s),
        "LONGEST": duration_words(breaker.longest_pause_s),
        "SHARE": f"{budget.per_answer:.0%}",
        "RATE": f"{budget.per_second:g}",
        "CAPACITY": f"{budget.capacity:g}",
    }
    return re.sub("|".join(figures), lambda name: figures[name[0]], OVERLOAD)


def _first_lower(sentence: str) -> str:
    words = sentence.strip()
    return words[:1].lower() + words[1:] if not re.match(r"[A-Z]{2}", words) else words


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
