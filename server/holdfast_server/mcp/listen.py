"""Telling clients of changes: on `subscriptions/listen` since 2026-07-28, on the session's own stream before.

Whatever is told goes to each client once: a burst of the same news is one notification. What is not asked for is not
sent (specification 2026-07-28, subscriptions).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from holdfast_server.mcp.caller import caller_of, is_over_http
from holdfast_server.mcp.client_profile import session_profile
from holdfast_server.mcp.listen_watches import Watches
from holdfast_server.mcp.tasks.extension import declares_tasks
from holdfast_server.mcp.url_elicitations import was_given
from holdfast_store.model.values import Json, Principal
from holdfast_tools import sdk
from holdfast_tools.downstream.news import ELICITED, Kind

log = logging.getLogger("holdfast.listen")

BURST_S = 0.1
"""How long news wait for more of the same."""

WATCH_S = 3.0
"""How long an acknowledgement waits for downstreams to take the resources that a stream asks for."""

BACKLOG = 10_000
"""How many different news may wait for a client; one that reads so slowly has to listen again."""

_LIST_CHANGED = {kind: f"notifications/{kind.value}/list_changed" for kind in Kind}
_RESOURCE_UPDATED = "notifications/resources/updated"
_FILTERS = {
    "toolsListChanged": Kind.TOOLS,
    "promptsListChanged": Kind.PROMPTS,
    "resourcesListChanged": Kind.RESOURCES,
}

Context = ServerRequestContext[Any, Any]
Notification = tuple[str, Json]

OwnsTask = Callable[[Principal, str], Awaitable[bool]]
"""Whether there is a task of this id, and it is this principal's."""


class Subscriber:
    """One client's wishes, and the news that wait for it."""

    def __init__(
        self, principal: Principal, kinds: Iterable[Kind] = (), task_ids: Iterable[str] = (), *, over_http: bool
    ) -> None:
        self.principal = principal
        self.over_http = over_http
        self.kinds = frozenset(kinds)
        self.task_ids = frozenset(task_ids)
        self.uris: set[str] = set()
        self.ended = False
        self._waiting: dict[object, Notification] = {}
        self._changed = asyncio.Event()

    def wants(self, uri: str) -> bool:
        """Whether it watches this resource, or one that this is a part of."""
        return any(uri == watched or uri.startswith(watched.rstrip("/") + "/") for watched in self.uris)

    def put(self, key: object, notification: Notification) -> None:
        """Have `notification` sent soon, in place of one under the same key that still waits."""
        if len(self._waiting) >= BACKLOG and key not in self._waiting:
            log.warning("a client does not read what it subscribed to; its subscription ends")
            self.end()
            return
        self._waiting[key] = notification
        self._changed.set()

    def end(self) -> None:
        """Nothing more is to come."""
        self.ended = True
        self._changed.set()

    async def news(self) -> list[Notification]:
        """What is to be sent next; empty at the end."""
        while not self._waiting and not self.ended:
            self._changed.clear()
            await self._changed.wait()
        if not self.ended:
            await anyio.sleep(BURST_S)
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())


class Subscriptions:
    """Everybody who is told of changes. `run` in a task of its own serves the sessions of the handshake era."""

    def __init__(self, watches: Watches, owns_task: OwnsTask) -> None:
        self._watches = watches
        self._owns_task = owns_task
        self._streams: set[Subscriber] = set()
        self._sessions: dict[Connection, Subscriber] = {}
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled; then every stream ends."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                await anyio.sleep_forever()
        finally:
            self._tasks = None
            self.close()

    def close(self) -> None:
        """End every listen stream the graceful way: its client is told that nothing more will come."""
        for stream in tuple(self._streams):
            stream.end()

    def dismiss(self, principals: Collection[Principal], *, only_over_http: bool = False) -> None:
        """Tell these nothing more: the config has them no longer, or not what they brought over HTTP."""
        gone = {(principal.tenant, principal.id) for principal in principals}
        for subscriber in self._subscribers:
            concerned = subscriber.over_http or not only_over_http
            if concerned and (subscriber.principal.tenant, subscriber.principal.id) in gone:
                subscriber.end()

    # --- what is told -----------------------------------------------------------------------------------------

    def publish(self, kind: Kind) -> None:
        """A list may have changed."""
        for subscriber in self._subscribers:
            if kind in subscriber.kinds:
                subscriber.put(kind, (_LIST_CHANGED[kind], {}))

    def publish_resource(self, uri: str) -> None:
        """The resource that clients know by this URI may have changed."""
        for subscriber in self._subscribers:
            if subscriber.wants(uri):
                subscriber.put((_RESOURCE_UPDATED, uri), (_RESOURCE_UPDATED, {"uri": uri}))

    def watches_task(self, task_id: str) -> bool:
        """Whether any stream asks for this task."""
        return any(task_id in stream.task_ids for stream in self._streams)

    def publish_task(self, task_id: str, principal: Principal, payload: Json) -> None:
        """A task has changed: `payload` is the whole of it. Only its own principal's streams are told."""
        for stream in tuple(self._streams):
            if task_id in stream.task_ids and _same(stream.principal, principal):
                stream.put(("notifications/tasks", task_id), ("notifications/tasks", payload))

    def publish_message(self, params: Json) -> None:
        """A log message that belongs to no request: for sessions of the handshake era that set a level for such.

        Where several principals are connected, by session or by stream, it cannot be known whose it is: nobody is told.
        """
        principals = {(one.principal.tenant, one.principal.id) for one in self._subscribers}
        if len(principals) > 1:
            return
        for connection, session in tuple(self._sessions.items()):
            profile = session_profile(connection)
            if profile.log_level is not None and profile.wants_message(params.get("level")):
                session.put(object(), ("notifications/message", params))

    def publish_elicited(self, params: Json) -> None:
        """An elicitation in URL mode is done: for the session that was sent there (2025-11-25)."""
        elicitation = params.get("elicitationId")
        for connection, session in tuple(self._sessions.items()):
            if was_given(connection, elicitation):
                session.put((ELICITED, elicitation), (ELICITED, params))

    @property
    def _subscribers(self) -> tuple[Subscriber, ...]:
        return (*self._streams, *self._sessions.values())

    # --- 2026-07-28: streams ----------------------------------------------------------------------------------

    async def listen(self, ctx: Context) -> Json:
        """Serve one `subscriptions/listen` until its client leaves, or the stream is ended here."""
        wishes = (ctx.params or {}).get("notifications") or {}
        kinds = [kind for name, kind in _FILTERS.items() if wishes.get(name) is True]
        task_ids = await self._own_tasks(ctx, _texts(wishes.get("taskIds")))
        stream = Subscriber(caller_of(ctx), kinds, task_ids, over_http=is_over_http(ctx))
        self._streams.add(stream)
        stamp = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        try:
            await self._watch_all(stream, _texts(wishes.get("resourceSubscriptions")))
            honoured = {name: True for name, kind in _FILTERS.items() if kind in stream.kinds}
            accepted: Json = dict(honoured)
            if stream.uris:
                accepted["resourceSubscriptions"] = [
                    uri for uri in _texts(wishes.get("resourceSubscriptions")) if uri in stream.uris
                ]
            if task_ids:
                accepted["taskIds"] = task_ids
            acknowledged: Json = {"notifications": accepted, "_meta": stamp}
            await sdk.tell(ctx.session, "notifications/subscriptions/acknowledged", acknowledged)
            while news := await stream.news():
                for method, params in news:
                    await sdk.tell(ctx.session, method, {**params, "_meta": {**params.get("_meta", {}), **stamp}})
        finally:
            self._streams.discard(stream)
            self._forget(stream)
        return {"_meta": stamp}

    async def _own_tasks(self, ctx: Context, task_ids: Iterable[str]) -> list[str]:
        """Those of `task_ids` that the caller may hear of; another principal's are left out just as unknown ones."""
        if not declares_tasks(ctx.params):
            return []
        caller = caller_of(ctx)
        return [task_id for task_id in dict.fromkeys(task_ids) if await self._owns_task(caller, task_id)]

    async def _watch_all(self, stream: Subscriber, uris: Iterable[str]) -> None:
        """Watch what can be watched; a URI that no downstream takes is left out of what is honoured."""

        async def watch(uri: str) -> None:
            try:
                await self._watches.add(uri)
                stream.uris.add(uri)
            except MCPError as error:
                log.info("a resource cannot be watched", extra={"uri": uri, "error": str(error)})

        with anyio.move_on_after(WATCH_S):
            async with anyio.create_task_group() as tasks:
                for uri in dict.fromkeys(uris):
                    tasks.start_soon(watch, uri)

    # --- before: sessions -------------------------------------------------------------------------------------

    def welcome(self, connection: Connection, principal: Principal, *, over_http: bool) -> None:
        """Tell a session of the handshake era of changes from now on, until it ends."""
        if connection in self._sessions or self._tasks is None:
            return
        session = self._sessions[connection] = Subscriber(principal, Kind, over_http=over_http)
        scope = anyio.CancelScope()
        connection.exit_stack.callback(scope.cancel)
        self._tasks.start_soon(self._serve_session, connection, session, scope)

    async def subscribe(self, connection: Connection, uri: str) -> None:
        """`resources/subscribe`. Raises MCPError with the refusal of the downstream."""
        session = self._sessions.get(connection)
        if session is not None and uri not in session.uris:
            await self._watches.add(uri)
            session.uris.add(uri)

    async def unsubscribe(self, connection: Connection, uri: str) -> None:
        """`resources/unsubscribe`; harmless for what was never subscribed to."""
        session = self._sessions.get(connection)
        if session is not None and uri in session.uris:
            session.uris.discard(uri)
            await self._watches.release(uri)

    async def _serve_session(self, connection: Connection, session: Subscriber, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await connection.initialized.wait()
                while news := await session.news():
                    for method, params in news:
                        await connection.notify(method, params or None)
        finally:
            self._sessions.pop(connection, None)
            self._forget(session)

    def _forget(self, subscriber: Subscriber) -> None:
        """Let go of what only this subscriber watched, whatever becomes of its own task."""
        uris, subscriber.uris = subscriber.uris, set()
        for uri in uris:
            if self._tasks is not None:
                self._tasks.start_soon(self._watches.release, uri)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _same(one: Principal, other: Principal) -> bool:
    return (one.tenant, one.id) == (other.tenant, other.id)
