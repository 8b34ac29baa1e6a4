"""The console: pages for people, on the same platform, policy and queries as the API.

One module per noun, each with its `router`; `page` makes every answer, `templates/` holds what they look like, and
`docs/console.md` the rules they keep.
"""

from fastapi import APIRouter

from vedette.serve.console import (
    account,
    alert_groups,
    alerts,
    approvals,
    assets,
    audit,
    bounty,
    case_work,
    cases,
    connections,
    coverage,
    decisions,
    entities,
    hosts,
    intel,
    investigate,
    keys,
    login,
    merchants,
    models,
    overview,
    people,
    pipelines,
    playbooks,
    reviews,
    rules,
    runs,
    search,
    traces,
)

_MODULES = (
    account,
    alert_groups,
    alerts,
    approvals,
    assets,
    audit,
    bounty,
    case_work,
    cases,
    connections,
    coverage,
    decisions,
    entities,
    hosts,
    intel,
    investigate,
    keys,
    login,
    merchants,
    models,
    overview,
    people,
    pipelines,
    playbooks,
    reviews,
    rules,
    runs,
    search,
    traces,
    # one a line: a page is added by its module's name
)
ROUTERS: tuple[APIRouter, ...] = tuple(module.router for module in _MODULES)
"""Everything the console serves."""
