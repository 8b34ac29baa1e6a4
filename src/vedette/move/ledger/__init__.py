"""Double entry: accounts, and immutable transfers that move one amount from a debit account to a credit account.

A transfer may be `pending`: it reserves its amount until a second transfer posts or voids it, or its timeout passes.
Every transfer of a batch gets exactly one status; the first that applies, in the fixed order of `TransferStatus`, wins.

Example:
    >>> from vedette.move.ledger import Transfer, TransferFlags
    >>> Transfer(id=1, debit_account_id=7, credit_account_id=8, amount=1999, ledger=978, code=1).flags
    0
    >>> TransferFlags.pending | TransferFlags.linked
    <TransferFlags.linked|pending: 3>

Source: the semantics TigerBeetle publishes for its accounts and transfers.
"""

from vedette.move.ledger.filters import AccountBalance, AccountFilter, FilterFlags, QueryFilter
from vedette.move.ledger.ledger import Ledger
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import (
    MAX_BATCH,
    U128_MAX,
    Account,
    AccountFlags,
    AccountStatus,
    PendingStatus,
    Transfer,
    TransferFlags,
    TransferStatus,
)

__all__ = [
    "MAX_BATCH",
    "U128_MAX",
    "Account",
    "AccountBalance",
    "AccountFilter",
    "AccountFlags",
    "AccountStatus",
    "FilterFlags",
    "Ledger",
    "Ledgers",
    "PendingStatus",
    "QueryFilter",
    "Transfer",
    "TransferFlags",
    "TransferStatus",
]
