"""The routes, one file per noun."""

from vedette.serve.routes import (
    alerts,
    apps,
    audit,
    cases,
    charges,
    connections,
    decisions,
    disputes,
    entities,
    events,
    intel,
    keys,
    ops,
    payouts,
    people,
    playbooks,
    query,
    taxii,
    traces,
    webhooks,
)

_MODULES = (
    ops,
    decisions,
    charges,
    disputes,
    payouts,
    webhooks,
    events,
    entities,
    query,
    intel,
    taxii,
    traces,
    alerts,
    cases,
    playbooks,
    keys,
    apps,
    connections,
    people,
    audit,
)
ROUTERS = tuple(module.router for module in _MODULES)
"""Everything the API serves besides the hot decision route."""
