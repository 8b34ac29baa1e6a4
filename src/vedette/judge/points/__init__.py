"""Decision points: something other than a payment that wants a score, rules, a review and reasons.

A point is one YAML file of at most 20 lines: which fields its events have, what to count, what raises the odds of
fraud, which rules decide, and in which words. Nothing in it is executed. It is decided on by the same decider, recorder
and register as payments; `POST /v1/decisions` takes its name as `source`.

Example:
    >>> from vedette.judge.points.loader import read_point
    >>> point = read_point('''
    ... point: sign_ups
    ... about: New merchant accounts
    ... id: id
    ... time: {created: iso_or_epoch_s}
    ... entities: {ip: [ip_address]}
    ... attributes: {ip_address: text, email_age_days: number}
    ... score: {base: 0.02, odds: [{id: new_email, if: ":email_age_days: < 7", times: 10, reason: the address is new}]}
    ... rules: [{id: likely, text: "review if :risk_score: >= 10"}]
    ... ''')
    >>> point.name, [rule.id for rule in point.rules.rules], point.features
    ('sign_ups', ['likely', 'builtin.highest_risk'], None)
"""
