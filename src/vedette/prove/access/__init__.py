"""Access: tenants, people, their tokens, API keys, and what each may do.

Everything is denied unless a row of `policy.POLICY` allows the kind of principal, its role or scope reaches it, and
tenant, account and mode fit. `Access` keeps tenants, people, grants, keys and personal tokens in state.db; a secret is
shown once and kept as a SHA-256 only.

Example:
    >>> from vedette.prove.access.policy import POLICY
    >>> POLICY["charges", "write"].key
    True
    >>> POLICY["keys", "write"].key
    False
"""

from vedette.prove.access.access import Access, ApiKey, IssuedKey
from vedette.prove.access.apps import App, IssuedAccess, IssuedApp
from vedette.prove.access.connections import Connection
from vedette.prove.access.factors import Factors, FactorState, Pending
from vedette.prove.access.logins import IssuedPassword, Logins, LoginState
from vedette.prove.access.people import People, Person
from vedette.prove.access.policy import POLICY, Kind, Level, Mode, Need, Principal, Role, permit
from vedette.prove.access.sessions import Live, Opened, Session, Sessions
from vedette.prove.access.tokens import IssuedToken, Token

__all__ = [
    "POLICY",
    "Access",
    "ApiKey",
    "App",
    "Connection",
    "FactorState",
    "Factors",
    "IssuedAccess",
    "IssuedApp",
    "IssuedKey",
    "IssuedPassword",
    "IssuedToken",
    "Kind",
    "Level",
    "Live",
    "LoginState",
    "Logins",
    "Mode",
    "Need",
    "Opened",
    "Pending",
    "People",
    "Person",
    "Principal",
    "Role",
    "Session",
    "Sessions",
    "Token",
    "permit",
]
