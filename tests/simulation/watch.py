"""Judging as it happens: what is sent must be running on the disk, what is told must be stored by then."""

from typing import TYPE_CHECKING

from simulation.downstream import Connection
from simulation.ledger import Sending, Telling
from simulation.offer import SKETCHES, Sketch, asked, denied

from holdfast_store.model.values import Call, Json

if TYPE_CHECKING:
    from simulation.world import World

_RUNNING = "SELECT id, fence, identity FROM calls WHERE traceparent = ? AND state = 'running' AND lease_owner = ?"
_APPROVAL = "SELECT a.status, a.definition FROM calls c JOIN approvals a ON a.id = c.approval_id WHERE c.id = ?"
_STANDS = "SELECT state, outcome_kind FROM calls WHERE id = ?"


class Watch:
    """Looks at the disk whenever something leaves an engine, and enters what it saw in the ledger."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def about_to_send(self, connection: Connection, tool: str, meta: Json) -> None:
        """The engine has decided to send: its call is claimed, and approved as the tool is defined now."""
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

    def sent(self, connection: Connection, tool: str, arguments: Json, meta: Json) -> Sending:
        """A request is written. Its effect may begin from now on."""
        world = self._world
        running = self._running(connection, meta)
        sending = Sending(
            number=len(world.ledger.sendings),
            moment=world.moment(),
            instant=world.loop.time(),
            process=connection.process,
            downstream=connection.spec.name,
            tool=tool,
            arguments=arguments,
            call=None if running is None else running[0],
            fence=1 if running is None else running[1],
        )
        world.log("sent", sending)
        if running is None:
            self._unclaimed(SKETCHES[tool], "was sent")
        else:
            self._judge(sending, running[2], connection)
        world.ledger.sendings.append(sending)
        return sending

    def told(self, request: int | None, call: Call) -> None:
        """A client is told how `call` stands."""
        world, outcome = self._world, call.outcome
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
