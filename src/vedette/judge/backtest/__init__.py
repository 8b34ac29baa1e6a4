"""Backtests of payment rules: what a rule set would have decided on past payments, and what became of them.

The past is what was recorded: the event, its features, its score, what alerts said. Rules are judged over that by the
decider itself, so a rule that then goes live says the same on the same traffic, payment for payment. What became of a
payment is known from labels and refunds; what nobody can know, because it was blocked, is estimated from its score by a
curve learned on those whose truth is known.
"""
