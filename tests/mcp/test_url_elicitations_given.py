"""Which ids of elicitations in URL mode are known to have been given to a session."""

from types import SimpleNamespace

from holdfast_server.mcp.url_elicitations import MOST_GIVEN, note_request, was_given


def test_an_id_counts_once_and_the_oldest_of_too_many_are_forgotten():
    connection = SimpleNamespace(state={})
    ctx = SimpleNamespace(session=SimpleNamespace(_connection=connection), protocol_version="2025-11-25")
    for number in range(MOST_GIVEN + 2):
        note_request(ctx, {"mode": "url", "elicitationId": f"visit-{number}"})
    assert not was_given(connection, "visit-1")
    assert was_given(connection, "visit-2")
    assert not was_given(connection, "visit-2")
    assert was_given(connection, f"visit-{MOST_GIVEN + 1}")
