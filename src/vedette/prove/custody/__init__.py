"""Custody of the keys that encrypt: where they live, who may bring them to life, how old they are.

A *provider* holds keys and never gives them out: `token` in a hardware module or SoftHSM through PKCS#11, `sealed` in
an encrypted file. `ceremony` makes a key with several custodians and officers, or rebuilds one, and signs a transcript.
`inventory` says how old each key is against its crypto-period. `credentials` gives services short-lived secrets by who
they are. Signing keys of the evidence are elsewhere: `prove.keys`.
"""
