"""Decisions: features, rules and a model become one recorded answer with its reasons.

`decider` gives the answer for one event and touches no disk. `recorder` puts events and decisions in the log, one
decision per event id, and goes on after a crash where the log ends. `service` is what HTTP and pipelines call: it keeps
the deadline, and answers by the merchant's policy when a part misses its share. `rebuild` makes a decision again from
its record, bit for bit.

Example:
    >>> from vedette.core.clock import SystemClock
    >>> from vedette.core.event import Event
    >>> from vedette.judge.decisions.decider import Decider
    >>> from vedette.judge.payment.rules import PaymentRules, parse_rule
    >>> rules = PaymentRules([parse_rule("block if :amount_in_usd: > 500", id="large")])
    >>> event = Event(id="1", tenant="acme", source="card_transactions", event_time=0, ingest_time=0,
    ...               data={"TRANSACTION_ID": 1, "CUSTOMER_ID": 7, "TERMINAL_ID": 9, "TX_AMOUNT": 600.0})
    >>> decision = Decider(features=None, model=None, rules=rules, clock=SystemClock()).decide(event)
    >>> decision.action.value, decision.reasons[0].code
    ('block', 'rule.large')
"""
