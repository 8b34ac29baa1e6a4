"""Reports of weaknesses that people outside send in: how bad each is and why, its clocks, its thread, its root cause.

Example:
    >>> from vedette.act.bounty.rubric import Facts, load_rubric, weigh
    >>> from vedette.core.content import shipped
    >>> rubric = load_rubric(shipped("response") / "bounty.yaml")
    >>> found = weigh(Facts(cwe="CWE-79", verified=True, self_only=True), rubric)
    >>> found.level, found.reasons[0]
    (<Level.INFORMATIONAL: 'informational'>, 'CWE-79: Improper Neutralization of Input During Web Page Generation')
"""
