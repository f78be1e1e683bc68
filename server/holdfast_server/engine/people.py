"""Who may call, by the config in force: by id, by tenant and id, and by token."""

from dataclasses import dataclass

from holdfast_policy.values import Effect
from holdfast_server.config import Config
from holdfast_server.mcp.admin import ADMIN_ROLE
from holdfast_server.mcp.tokens import TokenDirectory
from holdfast_store.model.values import LOCAL, Principal

OPERATOR = Principal("operator", frozenset({"approver", ADMIN_ROLE}))
"""Who holds the engine's own admin token."""


def approving_roles(config: Config) -> frozenset[str]:
    """The roles that open the admin endpoint: approver, admin, and those that a rule names."""
    terms = [rule.approval for rule in config.rules if rule.effect is Effect.REQUIRE_APPROVAL and rule.approval]
    named = frozenset(role for term in (*terms, config.approval_defaults) for role in term.roles)
    return OPERATOR.roles | named


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Whose access another config ends: of those that are `gone` on every way, of the others `over_http`.

    Over HTTP it ends with the token that opened it; and where there was none, as soon as everybody is to bring one.
    """

    gone: tuple[Principal, ...]
    over_http: tuple[Principal, ...]


class People:
    """The principals. What it hands out is changed in place by `take`, so that everybody sees the same ones.

    `configured` are those of the config by id, `known` all of them by tenant and id: the local caller and the operator
    as well.
    """

    def __init__(self, config: Config, admin_token_sha256: str) -> None:
        self.configured: dict[str, Principal] = {}
        self.known: dict[tuple[str, str], Principal] = {}
        self.tokens = TokenDirectory({})
        self._token_of: dict[tuple[str, str], str | None] = {}
        self._admin_token_sha256 = admin_token_sha256
        self.take(config)

    def take(self, config: Config) -> Withdrawn:
        """Go by the principals of `config`; whose access ends by that."""
        before, token_before = tuple(self.configured.values()), self._token_of
        self.configured.clear()
        self.configured.update({entry.principal.id: entry.principal for entry in config.principals})
        self.known.clear()
        self.known.update({_name(p): p for p in (LOCAL, OPERATOR, *self.configured.values())})
        tokens = {e.token_sha256: e.principal for e in config.principals if e.token_sha256 is not None}
        self.tokens.replace({**tokens, self._admin_token_sha256: OPERATOR})
        self._token_of = {_name(entry.principal): entry.token_sha256 for entry in config.principals}
        nobody = (LOCAL,) if config.principals and not before else ()
        kept = [principal for principal in before if _name(principal) in self.known]
        return Withdrawn(
            gone=tuple(principal for principal in before if _name(principal) not in self.known),
            over_http=(*nobody, *(one for one in kept if token_before[_name(one)] != self._token_of.get(_name(one)))),
        )


def _name(principal: Principal) -> tuple[str, str]:
    return principal.tenant, principal.id
