"""docs/api.md says what is true: its table is the route table, each status it lists is one that errors have."""

from __future__ import annotations

import re
from pathlib import Path

from vedette.serve.policy import policies
from vedette.serve.routes import ROUTERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()


def test_the_table_lists_every_route_with_its_policy_and_text():
    rows = []
    for router in ROUTERS:
        texts = {
            (method, route.path_format): route.endpoint.__doc__ for route in router.routes for method in route.methods
        }
        for route, policy in policies(router.routes).items():
            need = "anyone" if policy.open else f"`{policy.resource}` `{policy.verb}`"
            first = texts[route].strip().split("\n")[0]
            rows.append(f"| `{' '.join(route)}` | {need} | {first} |")
    assert PAGE.split("## Routes\n\n")[1].strip().split("\n")[2:] == rows


def test_every_promise_about_idempotency_has_its_test():
    """A sentence added to the page needs a test beside it here."""
    promised = re.findall(r"^- (.+)$", PAGE.split("## Idempotency")[1].split("## Decisions")[0], re.MULTILINE)
    tests = (Path(__file__).parent / "test_idempotency.py").read_text()
    proved = {
        "Requests with one key": "test_concurrent_requests_with_one_key_have_one_effect_and_one_answer",
        "A repeated answer": "test_white_space_and_order_of_fields_make_no_other_body",
        "White space": "test_a_key_with_another_body_is_refused",
        "A request refused before": "test_a_request_refused_before_it_began_leaves_its_key_free",
        "While another request": "test_a_request_in_hand_elsewhere_is_told_to_come_again",
        "Keys of two tenants": "test_keys_of_two_tenants_never_meet",
        "`POST /v1/decisions`": "test_decisions_repeat_by_event_id_without_any_key",
    }
    assert len(promised) == len(proved)
    for sentence, (start, test) in zip(promised, proved.items(), strict=True):
        assert sentence.startswith(start)
        assert f"def {test}(" in tests
