"""The shape of a config file: every key once, with its type, its default and what it is for.

`docs/configuration.md` is printed from these models; `sections.py` reads a file through them.
"""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from holdfast_policy.values import ApprovalTerms, Effect, Preset
from holdfast_server.config.quantities import (
    Duration,
    PositiveDuration,
    Switch,
    WholeNumber,
    duration_words,
    refusal,
    words_for,
)
from holdfast_store.contract import Retention
from holdfast_tools.downstream.spec import (
    DEFAULT_MAX_CONCURRENCY,
    DEFAULT_MAX_QUEUE,
    DEFAULT_MAX_SESSIONS,
    Isolation,
)
from holdfast_tools.settings import RunnerSettings, TaskUse, ToolSettings

DEFAULT_INLINE_WAIT_S = 4.0
DEFAULT_IDLE_EXIT_S = 600.0
DEFAULT_CONNECT_TIMEOUT_S = 30.0
DEFAULT_ANSWER_WITHIN_S = RunnerSettings().answer_within_s
MOST_SESSIONS = 1024
MOST_CONCURRENCY = 4096
MOST_QUEUED = 100_000
DEFAULT_MAX_ARGUMENTS_BYTES = 1024 * 1024
DEFAULT_MAX_RESULT_BYTES = 512 * 1024  # MCP clients over HTTP refuse messages of 1 MiB
SMALLEST_MAX_RESULT_BYTES = 8 * 1024  # holds a preview

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")

_TERMS = ApprovalTerms()
_RETENTION = Retention()
_TOOL = ToolSettings()


def _texts(value: Any) -> Any:
    """One text where a list of texts is due is that text alone: `roles: finance`."""
    return [value] if isinstance(value, str) else value


def _choice(value: Any, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return str(value)
    raise refusal(f"expected one of {', '.join(choices)}, found {words_for(value)}", "write one of them")


def _on_or_off(value: Any) -> str:
    """`off` is a text in YAML 1.2 and false in YAML 1.1: both are understood."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return _choice(value, ("on", "off"))


def _journal(value: Any) -> str:
    return _choice(value, ("auto", "strict"))


def _order(value: Any) -> Any:
    """`off` is None and `on` orders by nothing; a mapping says by what."""
    if isinstance(value, dict) and value:
        return value
    if isinstance(value, dict) or not (isinstance(value, bool) or value in ("on", "off")):
        raise refusal(f"expected on, off or {{by: POINTER}}, found {words_for(value)}", "write one of them")
    return OrderShape() if _on_or_off(value) == "on" else None


def _pointer(value: Any) -> Any:
    """A JSON pointer to an argument (RFC 6901, section 3)."""
    if not isinstance(value, str):
        raise refusal(f"expected a JSON pointer such as /contact_id, found {words_for(value)}", "write one")
    if _POINTER.fullmatch(value):
        return value
    path = value if value.startswith("/") else f"/{value}"
    mend = f"write {path}" if _POINTER.fullmatch(path) else "write ~0 for ~, and ~1 for a / within a name"
    raise refusal(f"expected a JSON pointer such as /contact_id, found {words_for(value)}", mend)


def _preset(value: Any) -> Preset:
    return Preset(_choice(value, tuple(Preset)))


def _effect(value: Any) -> Effect:
    return Effect(_choice(value, tuple(Effect)))


def _only(default: str, later: str) -> BeforeValidator:
    """A setting of which this version has one value, the default."""

    def check(value: Any) -> Any:
        if value != default:
            raise refusal(
                f"this version of Holdfast does not have {later}", f"remove the key (what happens now is {default!r})"
            )
        return value

    return BeforeValidator(check)


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], BeforeValidator(_texts)]
Roles = Annotated[list[Text], BeforeValidator(_texts), Field(min_length=1)]


class Shape(BaseModel):
    """One mapping of the file. Unknown keys are errors; values are not coerced.

    `title` heads the section in the docs, `place` is the keys that lead to it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)
    title: ClassVar[str]
    place: ClassVar[str]


class GatewayShape(Shape):
    """Keys at the top of the file."""

    title = "The top level"
    place = ""

    store: Text | None = Field(
        default=None,
        json_schema_extra={"shown": "`state.db` in the config's state folder"},
        description="Where calls, approvals and the journal live: `sqlite:///absolute/path/state.db`, or "
        "`sqlite://./state.db` beside the config. The file is created with mode 0600.",
    )
    preset: Annotated[Preset, BeforeValidator(_preset)] = Field(
        default=Preset.BALANCED,
        description="What happens to a call that no rule matches. `observe` allows it and records what would have been "
        "asked; `balanced` allows read-only and non-destructive tools and asks for the rest; `strict` allows only what "
        "`tools: ... annotations` marks so, and asks for the rest.",
    )
    inline_wait: Duration = Field(
        default=DEFAULT_INLINE_WAIT_S,
        le=3600.0,
        description="How long a client waits for a result before it gets a handle. Several frameworks give up at 5s.",
    )


class ServerShape(Shape):
    """One downstream, in the shape MCP clients use. Either `command` or `url`."""

    title = "Downstream servers"
    place = "mcpServers.NAME"

    command: Text | None = Field(
        default=None,
        description="The program to start, found on the PATH. With a slash: relative to the config's folder.",
    )
    args: list[str] = Field(
        default=[], description="Its arguments. Numbers and booleans are taken as they are written."
    )
    env: dict[str, str] = Field(
        default={}, description="Environment variables, added to a minimal environment. The parent's are not inherited."
    )
    cwd: Text | None = Field(
        default=None,
        json_schema_extra={"shown": "the config's folder"},
        description="The folder the program starts in, relative to the config's folder.",
    )
    url: Text | None = Field(default=None, description="A streamable HTTP endpoint, `http://` or `https://`.")
    headers: dict[str, str] = Field(default={}, description="HTTP headers sent with every request to `url`.")
    connect_timeout: PositiveDuration = Field(
        default=DEFAULT_CONNECT_TIMEOUT_S,
        description="Bounds start, handshake and the first listing of tools together.",
    )
    isolation: Isolation | None = Field(
        default=None,
        json_schema_extra={"shown": "`principal` where `principals` names two or more, else `shared`"},
        description="Whether principals may meet in one session, and so in one child process. See below.",
    )
    max_sessions: WholeNumber = Field(
        default=DEFAULT_MAX_SESSIONS,
        ge=1,
        le=MOST_SESSIONS,
        description="How many sessions, and so child processes, there are at most besides the first one. Where all "
        "are taken, a session is ended in which nothing but the answers of calls in doubt is outstanding, and with it "
        "its child process; else a call waits within its `timeout`, and then fails unsent.",
    )
    max_concurrency: WholeNumber = Field(
        default=DEFAULT_MAX_CONCURRENCY,
        ge=1,
        le=MOST_CONCURRENCY,
        description="How many calls, reads included, are under way at once. More wait in the queue. See below.",
    )
    max_queue: WholeNumber = Field(
        default=DEFAULT_MAX_QUEUE,
        ge=0,
        le=MOST_QUEUED,
        description="How many new calls may wait in the queue, and as many for their turn where calls have an `order`. "
        "More are turned away, and told when to come back.",
    )


class NamingShape(Shape):
    """What tools are called."""

    title = "Names"
    place = "naming"

    prefix: Switch = Field(
        default=True,
        description="Tools are exposed as `server__tool`; with `false` under their own names, and tools that would "
        "share one are set aside.",
    )


class EngineShape(Shape):
    """The background process that runs calls."""

    title = "The engine"
    place = "engine"

    idle_exit: PositiveDuration = Field(
        default=DEFAULT_IDLE_EXIT_S,
        description="A detached engine ends when no client was connected and nothing could run for this long.",
    )


class LimitsShape(Shape):
    """Bounds on what a client may send, and on what it is sent."""

    title = "Limits"
    place = "limits"

    max_arguments_bytes: WholeNumber = Field(
        default=DEFAULT_MAX_ARGUMENTS_BYTES,
        ge=1024,
        le=256 * 1024 * 1024,
        description="The most that one call's arguments may take as compact JSON, in bytes.",
    )
    max_result_bytes: WholeNumber = Field(
        default=DEFAULT_MAX_RESULT_BYTES,
        ge=SMALLEST_MAX_RESULT_BYTES,
        le=256 * 1024 * 1024,
        description="A result that takes more as compact JSON, in bytes, is answered with its beginning and a link to "
        "the resource `holdfast://calls/ID/result`, which is the whole, for whoever made the call.",
    )
    answer_within: PositiveDuration = Field(
        default=DEFAULT_ANSWER_WITHIN_S,
        description="How long the requester may take to answer what a server asks in the midst of a call. Then the "
        "call fails; where it is still under way, the server is told that nobody answered.",
    )


class RetentionShape(Shape):
    """How long what has ended is kept. Nothing open is ever purged."""

    title = "Retention"
    place = "retention"

    replay: PositiveDuration = Field(
        default=_RETENTION.replay_s, description="After its end a call with a key answers repeats with its outcome."
    )
    tombstone: PositiveDuration = Field(
        default=_RETENTION.tombstone_s,
        description="Then, for this long, the key answers that it was executed and the outcome is no longer kept.",
    )
    undispatched: Duration = Field(
        default=_RETENTION.undispatched_s,
        description="The key of a call that was denied, rejected or expired unsent is free again after this.",
    )
    payload: PositiveDuration = Field(
        default=_RETENTION.payload_s, description="Arguments and results are forgotten. At least `replay`."
    )
    journal: PositiveDuration = Field(
        default=_RETENTION.journal_s, description="Calls and their journal are forgotten. At least `payload`."
    )


class RetriesShape(Shape):
    """When a tool's error answer is tried again."""

    title = "Retries of a tool"
    place = "tools.GLOB.retries"

    max_attempts: WholeNumber = Field(
        default=_TOOL.max_attempts,
        ge=1,
        le=100,
        description="Attempts in all when the downstream answers with errors. Attempts that were never sent, and lost "
        "answers of tools that are safe to repeat, are counted apart.",
    )


class AnnotationsShape(Shape):
    """MCP's tool annotations."""

    title = "Annotations of a tool"
    place = "tools.GLOB.annotations"

    readOnlyHint: Switch | None = Field(default=None, description="The tool changes nothing.")  # noqa: N815
    destructiveHint: Switch | None = Field(  # noqa: N815
        default=None, description="The tool may destroy or overwrite something."
    )
    idempotentHint: Switch | None = Field(  # noqa: N815
        default=None,
        description="Repeating the same call changes nothing more: a lost answer may be answered by calling again.",
    )
    openWorldHint: Switch | None = Field(  # noqa: N815
        default=None, description="The tool reaches beyond a closed domain, as the web is."
    )


class OrderShape(Shape):
    """Which calls of a tool run one after the other. `order: on` needs no mapping."""

    title = "The order of a tool's calls"
    place = "tools.GLOB.order"

    by: Annotated[Text | None, BeforeValidator(_pointer)] = Field(
        default=None,
        json_schema_extra={"shown": "required"},
        description="A JSON pointer into the arguments, such as `/contact_id`: calls with the same value there run one "
        "after the other, calls with different values beside each other.",
    )


class ToolShape(Shape):
    """Settings of the tools whose `server__tool` name fits a glob."""

    title = "Settings of tools"
    place = "tools.GLOB"

    name: Text | None = Field(
        default=None,
        json_schema_extra={"shown": "`server__tool`"},
        description="What clients call this one tool. Rules, settings and the journal go on calling it `server__tool`.",
    )
    annotations: AnnotationsShape = Field(
        default=AnnotationsShape(), description="Your word on what the tool does; it overrides the server's hints."
    )
    strict: Switch = Field(
        default=_TOOL.strict,
        description="Arguments the schema does not name are refused where it does not say otherwise.",
    )
    timeout: PositiveDuration | None = Field(
        default=None,
        json_schema_extra={"shown": "60s read-only, 1h otherwise"},
        description="How long one attempt may take before its answer counts as lost.",
    )
    deadline: PositiveDuration | None = Field(
        default=None,
        description="How long after it was asked for a call may still be sent, waits for approval included. One that "
        "is not sent by then has expired, and is not sent any more; what was sent has its `timeout`. A client may say "
        'less in `_meta["dev.holdfast/deadline"]`, such as `"30s"`.',
    )
    inline_wait: Duration | None = Field(
        default=None, json_schema_extra={"shown": "the top level's"}, description="As `inline_wait` at the top level."
    )
    retries: RetriesShape = Field(default=RetriesShape(), description="When an error answer is tried again.")
    dedupe: Annotated[Literal["on", "off"], BeforeValidator(_on_or_off)] = Field(
        default="on",
        description="Whether a repeat without a key joins the call that it repeats. `off` where two equal calls are "
        "two intents.",
    )
    join_window: Duration = Field(
        default=_TOOL.join_window_s,
        description="How long an ended call whose outcome was never delivered still answers such a repeat.",
    )
    key_argument: Text | None = Field(default=None, description="This argument is the idempotency key.")
    forward_key: Text | None = Field(
        default=None,
        description="The downstream honours the idempotency key when it gets it in this argument: a lost answer is "
        "then safe to ask for again.",
    )
    max_result_bytes: WholeNumber | None = Field(
        default=None,
        ge=SMALLEST_MAX_RESULT_BYTES,
        json_schema_extra={"shown": "that of `limits`"},
        description="As `max_result_bytes` of `limits`, for this tool.",
    )
    check_output: Annotated[Literal["on", "off"], BeforeValidator(_on_or_off)] = Field(
        default="on",
        description="Whether a result that does not fit the tool's output schema is an error. `off` lets it pass.",
    )
    journal: Annotated[Literal["auto", "strict"], BeforeValidator(_journal)] = Field(
        default="auto",
        description="`strict` records even a read-only call before it is sent, so that a crash cannot lose the record.",
    )
    cancel: Annotated[Literal["keep"], _only("keep", "`cancel: forward`")] = Field(
        default="keep", description="A dispatched write is never told of a cancel; its outcome is kept."
    )
    task: TaskUse = Field(
        default=_TOOL.task,
        description="When a client that speaks of tasks gets one: `auto` once the call takes longer than "
        "`inline_wait` or is parked, `always` at once, `never` a handle in words instead; `required` is `always`, and "
        "refuses clients without tasks. Towards a server of 2025-11-25 whose tool can be called as a task, writes are "
        "called so, because a task can be found again when its answer is lost; with `never` only those that must be.",
    )
    order: Annotated[OrderShape | None, BeforeValidator(_order)] = Field(
        default=None,
        json_schema_extra={"shown": "`off`"},
        description="`on` runs the tool's calls one at a time, in the order in which they were asked for or approved; "
        "`{by: POINTER}` only those with the same value there. See below.",
    )


class MatchShape(Shape):
    """Which calls a rule looks at; every given condition must hold."""

    title = "What a rule matches"
    place = "rules[].match"

    tool: Text = Field(default="*", description="A glob on `server__tool`.")
    server: Text = Field(default="*", description="A glob on the server's name.")
    annotations: AnnotationsShape = Field(default=AnnotationsShape(), description="Effective annotations of the tool.")
    roles: Texts = Field(default=[], description="The caller holds one of these roles.")


class ApprovalShape(Shape):
    """On which terms people are asked. A rule's own terms override these one by one."""

    title = "Approvals"
    place = "approval_defaults"

    min: WholeNumber = Field(
        default=_TERMS.min_verdicts, ge=1, le=20, description="How many different people must approve."
    )
    roles: Roles = Field(
        default=sorted(_TERMS.roles), description="An approver must hold one of these roles for the verdict to count."
    )
    prevent_self_review: Switch = Field(
        default=_TERMS.prevent_self_review, description="Whoever asked for the call cannot approve it."
    )
    expires_in: PositiveDuration = Field(
        default=_TERMS.expires_in_s, description="Undecided for this long, the call is rejected."
    )
    execute_within: PositiveDuration = Field(
        default=_TERMS.execute_within_s, description="An approved call that could not start within this time expires."
    )


class RuleShape(Shape):
    """One rule."""

    title = "Rules"
    place = "rules[]"

    id: Text = Field(
        description="The rule's name, shown wherever it had a say.", json_schema_extra={"shown": "required"}
    )
    match: MatchShape = Field(default=MatchShape(), description="Which calls it looks at.")
    when: Text | None = Field(
        default=None,
        description="A CEL expression over `args`, `tool`, `server` and `principal`. One that cannot be evaluated "
        "never means allow.",
    )
    effect: Annotated[Effect, BeforeValidator(_effect)] = Field(
        description="`allow`, `deny` or `require_approval`.", json_schema_extra={"shown": "required"}
    )
    reason: str = Field(default="", description="Shown to approvers and to the model.")
    mode: Annotated[Literal["enforce"], _only("enforce", "`mode: log_only`")] = Field(
        default="enforce", description="The rule is applied."
    )
    approval: ApprovalShape | None = Field(
        default=None,
        json_schema_extra={"shown": "`approval_defaults`"},
        description="Terms of this rule's approvals, only with `effect: require_approval`.",
    )


class PrincipalShape(Shape):
    """Who may call over HTTP, on the admin endpoint, or with `serve --as ID`."""

    title = "Principals"
    place = "principals[]"

    id: Text = Field(
        description="The name under which this caller's calls and verdicts stand in the journal.",
        json_schema_extra={"shown": "required"},
    )
    token: Text | None = Field(
        default=None, description="The bearer token. Better `${VAR}` or `token_file` than the token itself."
    )
    token_file: Text | None = Field(
        default=None, description="A file that holds the token: yours, mode 0600, relative to the config's folder."
    )
    roles: Texts = Field(
        default=[], description="`approver` and `admin` open the admin endpoint, as does any role that a rule names."
    )
    tenant: Text = Field(
        default="default", description="Calls and keys of different tenants never meet; only the role `admin` sees all."
    )


SHAPES: tuple[type[Shape], ...] = (
    GatewayShape,
    ServerShape,
    ToolShape,
    OrderShape,
    AnnotationsShape,
    RetriesShape,
    RuleShape,
    MatchShape,
    ApprovalShape,
    PrincipalShape,
    NamingShape,
    EngineShape,
    LimitsShape,
    RetentionShape,
)
"""Every section, in the order in which the docs show them."""

TOP_LEVEL_SECTIONS: tuple[str, ...] = (
    "mcpServers",
    "tools",
    "trust_annotations",
    "rules",
    "approval_defaults",
    "principals",
    "naming",
    "engine",
    "limits",
    "retention",
)

FOREIGN_TOP_LEVEL = frozenset(
    {"$schema", "globalShortcut", "preferences", "isUsingBuiltInNodeForMcp", "isDxtAutoUpdatesEnabled", "inputs"}
)
"""Keys that clients keep beside `mcpServers`: accepted and reported, so that a client's own file can be served."""

NOT_IN_THIS_VERSION = {
    "telemetry": "telemetry export",
    "grants": "standing grants of approval",
    "slo": "service level objectives",
    "slos": "service level objectives",
    "redaction": "redaction rules",
    "notifications": "notifications of approvers",
}
"""Keys that later versions have: refused in words of their own rather than as a typo."""


def default_words(shape: type[Shape], key: str) -> str:
    """The default of a key as it would be written in the file."""
    info = shape.model_fields[key]
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "shown" in extra:
        return str(extra["shown"])
    value = info.default
    if value is None or value in ({}, []) or isinstance(value, Shape):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{duration_words(value)}`"
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    return f"`{value}`" if value != "" else "none"
