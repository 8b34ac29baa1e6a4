"""Proof and protection: who may act, what was done, and that nobody can quietly change the record of it.

`dlp` keeps card numbers out of everything the product stores, hashes or logs. `access` knows tenants, people, API keys
and what each may do. `evidence` puts every decision, action and access into one append-only tree whose signed heads are
kept outside the database. `keys` and `secrets` hold what signs and what must not be seen.

Example:
    >>> from vedette.prove.dlp import scrub
    >>> scrub("card 4242 4242 4242 4242 declined")
    'card [card number: visa] declined'
"""
