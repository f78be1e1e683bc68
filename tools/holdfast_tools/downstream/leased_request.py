"""One request that changes nothing, on a session of its own: whoever answers it may ask its client meanwhile."""

import math
from contextlib import AbstractAsyncContextManager

import anyio
from mcp.shared.exceptions import MCPError

from holdfast_store.model.errors import DownstreamError
from holdfast_store.model.values import Json
from holdfast_tools import sdk
from holdfast_tools.client import ClientProfile
from holdfast_tools.downstream.answers import attempt_of_error, finite
from holdfast_tools.downstream.attempt import Answered
from holdfast_tools.downstream.link import Exchange
from holdfast_tools.downstream.session import OnAsk, Session


class LeasedRequest:
    """For `client`, to the downstream `name`, on the session that `leased` gives.

    `timeout_s` bounds how long the server takes, questions to its client left out.
    """

    def __init__(
        self, name: str, leased: AbstractAsyncContextManager[Session], client: ClientProfile, timeout_s: float
    ) -> None:
        self._name = name
        self._leased = leased
        self._client = client
        self._timeout_s = timeout_s
        self._questions = 0
        self._scope = anyio.CancelScope()

    async def send(
        self,
        method: str,
        params: Json,
        meta: Json,
        on_progress: sdk.OnProgress | None,
        on_message: sdk.OnMessage | None,
        on_ask: OnAsk | None,
    ) -> Json:
        """The raw result. Raises MCPError with the server's own error, and DownstreamError where no answer came."""

        async def ask(request: Json) -> Json:
            if on_ask is None:
                raise TypeError("a request without anybody to ask was asked something")
            self._questions += 1
            self._scope.deadline = math.inf
            try:
                return await on_ask(request)
            finally:
                self._questions -= 1
                if not self._questions:
                    self._scope.deadline = anyio.current_time() + self._timeout_s

        exchange = Exchange()
        self._scope.deadline = anyio.current_time() + self._timeout_s
        with self._scope:
            async with self._leased as session:
                try:
                    result = await session.request(
                        method,
                        params,
                        exchange,
                        client=self._client,
                        meta=meta,
                        on_progress=on_progress,
                        on_message=on_message,
                        on_ask=ask if on_ask is not None else None,
                        cancel_on_abandon=True,
                    )
                except MCPError as error:
                    why = f"the connection ended before the answer came: {session.link.reason}"
                    attempt = attempt_of_error(self._name, error, exchange, why, modern=session.is_modern)
                    if isinstance(attempt, Answered):
                        raise
                    raise DownstreamError(attempt.reason) from error
                session.answered = True
                return finite(result)  # type: ignore[no-any-return]
        raise DownstreamError(f"the downstream {self._name!r} did not answer {method} within {self._timeout_s:g} s")
