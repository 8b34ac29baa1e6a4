"""Double entry: accounts, and immutable transfers that move one amount from a debit account to a credit account.

A transfer may be `PENDING`: it reserves its amount until a second transfer posts or voids it, or its timeout passes.
Every transfer of a batch gets exactly one status; the first that applies, in the fixed order of `TransferStatus`, wins.

Example:
    >>> from vedette.move.ledger.nouns import Transfer, TransferFlags
    >>> Transfer(id=1, debit_account_id=7, credit_account_id=8, amount=1999, ledger=978, code=1).flags
    0
    >>> TransferFlags.PENDING | TransferFlags.LINKED
    <TransferFlags.LINKED|PENDING: 3>

Source: the semantics TigerBeetle publishes for its accounts and transfers.
"""
