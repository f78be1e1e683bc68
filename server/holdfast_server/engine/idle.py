"""A detached engine ends by itself when nobody is connected and nothing can run, for `engine.idle_exit`."""

import logging

from holdfast_server.engine.engine import Engine
from holdfast_store.contract import CallFilter, Store
from holdfast_store.model.errors import StoreError
from holdfast_store.model.lifecycle import State
from holdfast_tools.rounds import asks_nothing

log = logging.getLogger("holdfast.engine")

LOOK_AGAIN_S = 1.0
"""How long it lets pass, at least, between two looks at what cannot tell when it is over."""

_PAGE = 500


async def stop_when_idle(engine: Engine) -> None:
    """Stop `engine` once nobody was connected and nothing could run for as long as its patience lasts.

    The decision and the end of listening are one step: whoever comes later is not let in, and finds the next engine.
    """
    quiet = engine.quiet
    while not engine.stopping.is_set():
        patience_s = engine.patience_s
        if engine.is_busy or (quiet.left_s(patience_s) <= 0 and await something_can_run(engine.assembly.store)):
            quiet.stir()
            wait_s = max(patience_s, LOOK_AGAIN_S)
        else:
            # That took a while: everything may be otherwise now. No await from here to the stop.
            wait_s = quiet.left_s(engine.patience_s)
            if wait_s <= 0 and not engine.is_busy:
                log.info("nobody is connected and nothing can run", extra={"patience_s": patience_s})
                engine.stop(engine.drain_s)
                return
        await quiet.wait(wait_s)


async def something_can_run(store: Store) -> bool:
    """Whether a stored call moves on without anybody's doing. Parked ones do not: people and expiries move these."""
    try:
        if (await store.list_calls(CallFilter(states=frozenset({State.QUEUED})), 1)).items:
            return True
        cursor: str | None = None
        while True:
            page = await store.list_calls(CallFilter(states=frozenset({State.WAITING_FOR_INPUT})), _PAGE, cursor)
            if any(asks_nothing(call) for call in page.items):
                return True
            cursor = page.cursor
            if cursor is None:
                return False
    except StoreError as error:
        log.error("whether anything can run is not known", extra={"error": str(error)})
        return True
