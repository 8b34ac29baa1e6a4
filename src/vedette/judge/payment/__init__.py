"""Payment rules: `block if :amount_in_usd: > 500 and ::terminal:: = '3156'`.

A rule is parsed by a grammar, typed against the attribute table, and lowered to `expr` nodes with the place of every
word. What nothing provides is missing; a missing value makes a comparison neither true nor false, through NOT as well,
and a rule that is not true does not fire.

Example:
    >>> from vedette.judge.payment.rules import parse_rule
    >>> rule = parse_rule("block if :amount_in_usd: > 500")
    >>> rule.action.value, rule.result({":amount_in_usd:": 600.0}).value
    ('block', 'fired')
    >>> rule.result({}).value
    'unknown'
"""
