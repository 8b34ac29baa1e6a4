"""The vault: card numbers in, random tokens out. Only its own process opens it (`serve.vault_app`).

Each card is sealed under a data key of its own, bound to tenant and token; the data key is sealed under the tenant's
wrapping key, which never leaves its provider. So a row that is copied elsewhere opens nowhere, a rotation seals data
keys anew and touches no card, and destroying the tenant's keys makes every copy of its cards unreadable, also in
backups.
"""
