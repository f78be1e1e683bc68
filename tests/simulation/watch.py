"""Judging as it happens: what is sent must be running on the disk, what is told must be stored by then."""

from typing import TYPE_CHECKING

from simulation.downstream import Connection, SentDispatch
from simulation.ledger import Question, Sending, Telling
from simulation.offer import SKETCHES, Sketch, asked, denied
from simulation.probes import Rare

from holdfast_store.model.values import Call, Json, Principal

if TYPE_CHECKING:
    from simulation.world import World

_RUNNING = "SELECT id, fence, identity FROM calls WHERE traceparent = ? AND state = 'running' AND lease_owner = ?"
_APPROVAL = "SELECT a.status, a.definition FROM calls c JOIN approvals a ON a.id = c.approval_id WHERE c.id = ?"
_STANDS = "SELECT state, outcome_kind FROM calls WHERE id = ?"
_PRINCIPAL = "SELECT principal FROM calls WHERE id = ?"

_ROUNDING_S = 0.001


class Watch:
    """Looks at the disk whenever something leaves an engine, and enters what it saw in the ledger."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def about_to_send(self, connection: Connection, tool: str, meta: Json, others: tuple[SentDispatch, ...]) -> None:
        """The engine has decided to send: its call is claimed, approved as the tool is defined now, and has a place."""
        self._judge_room(connection, others)
        running = self._running(connection, meta)
        if running is None:
            self._unclaimed(SKETCHES[tool], "is about to be sent")
            return
        engine = self._world.engine
        approval = self._world.database.execute(_APPROVAL, (running[0],)).fetchone()
        offered = None if engine is None else engine.catalog.find(f"{connection.spec.name}__{tool}")
        if approval is None or offered is None or not asked(SKETCHES[tool], stern=self._stern()):
            return
        if approval[1] != offered.digest:
            self._world.broken(
                "approval-of-another-definition", f"{running[0]} was approved for another definition of {tool}"
            )

    def _judge_room(self, connection: Connection, others: tuple[SentDispatch, ...]) -> None:
        """Of those that are under way here, the ones whose time is up have left their places."""
        world = self._world
        now, most = world.loop.time(), world.plan.places
        in_place = [
            each for each in others if not each.outcome.done() and now < each.began_at + each.timeout_s - _ROUNDING_S
        ]
        if len(in_place) + 1 == most:
            world.note(Rare.ALL_PLACES_TAKEN)
        if len(in_place) >= most:
            world.broken("too-many-at-once", f"{len(in_place) + 1} under way at {connection.spec.name}, {most} may be")

    def sent(
        self, connection: Connection, dispatch: SentDispatch, tool: str, arguments: Json, meta: Json, members: Json
    ) -> Sending:
        """A request is written. Its effect may begin from now on."""
        world = self._world
        running = self._running(connection, meta)
        sending = Sending(
            number=len(world.ledger.sendings),
            moment=world.moment(),
            instant=world.loop.time(),
            dispatched_at=dispatch.began_at,
            process=connection.process,
            downstream=connection.spec.name,
            tool=tool,
            arguments=arguments,
            call=None if running is None else running[0],
            fence=1 if running is None else running[1],
            traceparent=meta.get("traceparent"),
            carried=dict(members.get("inputResponses") or {}),
        )
        world.log("sent", sending)
        connection.gate.sent(sending, dispatch.decided)
        if running is None:
            self._unclaimed(SKETCHES[tool], "was sent")
        else:
            self._judge(sending, running[2], connection)
        world.ledger.sendings.append(sending)
        return sending

    def asked(self, question: Question, principal: Principal) -> None:
        """A question is put to somebody."""
        row = self._world.database.execute(_PRINCIPAL, (question.sending.call,)).fetchone()
        if row is not None and row[0] != principal.id:
            self._world.broken("asked-another", f"{question.key} of {question.sending} was put to {principal.id}")

    def told(self, request: int | None, call: Call, principal: Principal | None) -> None:
        """A client is told how `call` stands."""
        world, outcome = self._world, call.outcome
        if principal is not None and call.principal != principal.id:
            world.broken("told-another", f"{principal.id} was told of {call.id}, a call of {call.principal}")
        kind, payload = (None, None) if outcome is None else (outcome.kind, outcome.payload)
        world.ledger.tellings.append(Telling(world.moment(), request, call.id, call.state, kind, payload))
        world.log("told", call.id[:6], call.state.value, "" if kind is None else kind.value)
        if SKETCHES[call.original_name].read_only and call.ended:
            return
        row = world.database.execute(_STANDS, (call.id,)).fetchone()
        if row is None:
            world.broken("told-before-admitted", f"{call.id} was told to a client, and is not stored")
        elif call.ended and row != (call.state.value, kind and kind.value):
            world.broken("told-before-settled", f"{call.id} was told as {call.state.value}, and is stored as {row[0]}")

    def _judge(self, sending: Sending, identity: str, connection: Connection) -> None:
        world, sketch, stern = self._world, SKETCHES[sending.tool], self._stern()
        attempt = (sending.call, sending.fence)
        if any((other.call, other.fence) == attempt for other in world.ledger.sendings):
            world.broken("attempt-sent-twice", f"attempt {sending.fence} of {sending.call} was sent twice")
        if identity != connection.spec.identity:
            world.broken("sent-to-another", f"{sending.call} was made for another {sending.downstream}")
        if denied(sketch, sending.arguments, stern=stern):
            world.broken("denied-but-sent", f"{sending.tool} is denied, and {sending.call} was sent")
        approval = world.database.execute(_APPROVAL, (sending.call,)).fetchone()
        if asked(sketch, stern=stern) and (approval is None or approval[0] != "approved"):
            world.broken("unapproved-but-sent", f"{sending.call} ({sending.tool}) was sent without an approval")

    def _unclaimed(self, sketch: Sketch, what: str) -> None:
        """Only a plain read may be sent before anything of it is stored."""
        if not sketch.read_only or sketch.settings.get("journal_strict"):
            self._world.broken("sent-unclaimed", f"{sketch.name} {what}, and no call of it is running")

    def _stern(self) -> bool:
        return self._world.engine is not None and self._world.engine.stern

    def _running(self, connection: Connection, meta: Json) -> tuple[str, int, str] | None:
        """The call under the request's trace context that this engine has claimed: id, fence and identity."""
        owner = f"engine-{connection.process}"
        row: tuple[str, int, str] | None = self._world.database.execute(
            _RUNNING, (meta.get("traceparent"), owner)
        ).fetchone()
        return row
