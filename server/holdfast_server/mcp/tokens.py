"""Who a bearer token stands for."""

import hashlib
import hmac
from collections.abc import Mapping

from holdfast_server.mcp.caller import PrincipalToken
from holdfast_store.model.values import Principal


class TokenDirectory:
    """Tokens by their SHA-256; the tokens themselves are never kept."""

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        self._principals = dict(principals)

    def replace(self, principals: Mapping[str, Principal]) -> None:
        """Know these tokens and no others, from the next request on."""
        self._principals = dict(principals)

    def find(self, token: str) -> Principal | None:
        """The principal of `token`, compared in constant time."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found: Principal | None = None
        for known, principal in self._principals.items():
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    async def verify_token(self, token: str) -> PrincipalToken | None:
        """The SDK's `TokenVerifier`."""
        principal = self.find(token)
        if principal is None:
            return None
        client_id = f"{principal.tenant}/{principal.id}"
        return PrincipalToken(token="", client_id=client_id, scopes=[], principal=principal)
