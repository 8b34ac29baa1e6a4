"""Access: tenants, people, API keys, and what each may do.

Everything is denied unless a row of `policy.POLICY` allows the kind of principal, its role or scope reaches it, and
tenant, account and mode fit. `Access` keeps tenants, people, grants and keys in state.db; a key's secret is shown once
and kept as a SHA-256 only.

Example:
    >>> from vedette.prove.access.policy import POLICY
    >>> POLICY["charges", "write"].key
    True
    >>> POLICY["keys", "write"].key
    False
"""

from vedette.prove.access.access import Access, ApiKey, IssuedKey
from vedette.prove.access.people import People, Person
from vedette.prove.access.policy import POLICY, Kind, Level, Mode, Need, Principal, Role, permit

__all__ = [
    "POLICY",
    "Access",
    "ApiKey",
    "IssuedKey",
    "Kind",
    "Level",
    "Mode",
    "Need",
    "People",
    "Person",
    "Principal",
    "Role",
    "permit",
]
