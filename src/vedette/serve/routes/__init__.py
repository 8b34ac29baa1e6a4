"""The routes, one file per noun."""

from vedette.serve.routes import alerts, audit, charges, decisions, events, keys, ops, payouts, playbooks, query

ROUTERS = tuple(
    module.router for module in (ops, decisions, charges, payouts, events, query, alerts, playbooks, keys, audit)
)
"""Everything the API serves besides the hot decision route."""
