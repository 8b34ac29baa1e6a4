"""Playbooks: versioned answers to an alert, checked when loaded, run durably, resumed after any kill.

`loader` reads YAML and collects every problem with its place; `plan` shows what a run would do and touch; `interpreter`
carries a playbook out on `core.execute`; `responder` starts runs (one per alert and playbook version), shows them and
takes people's decisions. Control words are CACAO's: action, if-condition, while-condition, and our `approval`.

Example:
    >>> from vedette.act.playbooks.references import fill
    >>> fill({"key": "${inputs.key_id}", "text": "revoke ${inputs.key_id}"}, {"inputs": {"key_id": "k-1"}})
    {'key': 'k-1', 'text': 'revoke k-1'}
"""
