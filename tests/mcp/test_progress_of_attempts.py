"""Progress that a client is told never falls, whatever its downstream tells in one attempt after the other."""

from types import SimpleNamespace

from holdfast_server.mcp.relay_stream import STANDING_STEP, CallerStream
from holdfast_tools.client import ClientProfile


class Session:
    """What a stream writes to; keeps the progress that was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str | None]] = []
        self._request_outbound = self

    async def notify(self, method, params):
        assert method == "notifications/progress"
        self.told.append((params["progress"], params.get("message")))


def stream_to(session: Session) -> CallerStream:
    ctx = SimpleNamespace(session=session, params={"_meta": {"progressToken": "t"}})
    return CallerStream(ctx, ClientProfile())


async def test_what_a_second_attempt_tells_is_passed_on_once_it_is_as_far_as_the_first():
    session = Session()
    stream = stream_to(session)
    for progress in (0, 1, 2, 0, 1, 2, 3):
        await stream.on_progress(float(progress), 4.0, None)
    await stream.drained()
    assert [progress for progress, _ in session.told] == [0, 1, 2, 2, 3]


async def test_a_downstreams_own_numbers_go_on_from_what_was_told_in_words():
    session = Session()
    stream = stream_to(session)
    stream.stand("waiting")
    stream.stand("still waiting")
    await stream.on_progress(0.0, None, "begun")
    await stream.on_progress(1.0, None, "half")
    stream.stand("never told")
    await stream.drained()
    assert session.told == [(STANDING_STEP, "waiting"), (2 * STANDING_STEP, "still waiting"), (1, "half")]
