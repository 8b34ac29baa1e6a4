"""Moving money exactly once: idempotency keys, limits, the ledger, charges, payouts, and webhooks that tell of them.

Everything here lives in one database, so that a charge, its ledger effect, its stored response and its webhook commit
together or not at all. Nothing here speaks HTTP: services take values and return values; `serve` puts routes on them.
"""
