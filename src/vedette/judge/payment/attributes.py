"""The attribute table: what a payment rule may name, of what type, and when it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from vedette.core.money import EXPONENTS


class Kind(StrEnum):
    """Type of an attribute; it decides which operators and values a rule may use."""

    BOOLEAN = "boolean"
    """Stands alone as a condition. False, never missing, when nothing provides it."""
    NUMBER = "number"
    TEXT = "text"
    """Compared without regard to case."""
    CASED = "case-sensitive text"
    COUNTRY = "country"
    """ISO 3166-1 alpha-2, any case."""
    STATE = "state"
    """ISO 3166-2 without the country, any case: `CA`, `NSW`."""
    METADATA = "metadata"
    """The merchant's own value: case-sensitive text that works as a number beside a number."""


class Phase(StrEnum):
    """When an attribute becomes known."""

    BEFORE = "before_authorization"
    AFTER = "after_authorization"
    """The issuer's checks; rules that use one run after those that don't."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One name of the table."""

    name: str
    kind: Kind
    values: frozenset[str] = frozenset()
    """Closed set of values a rule may compare with; empty means any."""
    phase: Phase = Phase.BEFORE
    cap: int = 0
    """Largest value the attribute can take (a bounded count); 0 means no cap."""
    scored: bool = False
    """Known only once the model has answered."""


BOUNDED_CAP = 25
"""Most distinct items that bounded counts remember, so `> 25` on them can never fire."""

RISK_LEVELS = ("normal", "elevated", "highest", "not_assessed")
_CHECKS = "pass fail unavailable unchecked not_provided"
_WINDOWS = ("all_time", "weekly", "daily", "hourly")

COUNTRIES = frozenset(
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA "
    "CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA "
    "GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP "
    "KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS "
    "MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS "
    "RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW "
    "TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW".split()
)
"""ISO 3166-1 alpha-2 codes, and XK, which card networks use for Kosovo."""

_BOOLEANS = (
    "is_new_card_on_customer is_3d_secure is_3d_secure_authenticated has_liability_shift is_anonymous_ip "
    "is_my_login_ip is_disposable_email is_checkout is_off_session is_recurring has_cryptogram"
)
_TEXTS = (
    "card_bin charge_description statement_descriptor browser isp operating_system user_agent ip_address email "
    "email_domain cardholder_name currency digital_wallet transaction_type "
    "billing_address billing_address_line1 billing_address_line2 billing_address_postal_code billing_address_city "
    "shipping_address shipping_address_line1 shipping_address_line2 shipping_address_postal_code shipping_address_city"
)
_CASED_TEXTS = "card_fingerprint customer destination merchant"
_COUNTRY_NAMES = "card_country ip_country billing_address_country shipping_address_country"
_STATE_NAMES = "ip_state billing_address_state shipping_address_state"
_NUMBERS = (
    "distance_between_billing_and_shipping_address distance_between_ip_and_billing_address "
    "distance_between_ip_and_shipping_address"
)
_CLOSED_SETS = {
    "card_brand": "amex visa mc dscvr diners interac jcb cup",
    "card_funding": "credit debit prepaid unknown",
    "card_3d_secure_support": "required recommended optional not_supported",
    "ip_address_connection_type": "cable/dsl cellular corporate dialup",
}
_AFTER_CHECKS = "address_line1_check address_zip_check cvc_check"
RISKS: Mapping[str, str] = {f"{kind}_risk": kind for kind in ("key", "customer", "ip", "card", "device", "merchant")}
"""Attribute -> type of the entity whose risk it is, 0..99 from the alerts about it; missing where the payment names no
such entity."""
_SCORES = "fraudulent_dispute_score early_fraud_warning_score fraudulent_payment_score"


def _counts() -> Iterable[str]:
    for outcome in ("authorized", "blocked", "declined", "total"):
        for entity in ("billing_address", "card_number", "customer", "email", "ip_address", "shipping_address"):
            for window in _WINDOWS:
                yield f"{outcome}_charges_per_{entity}_{window}"


def _bounded_counts() -> Iterable[str]:
    addresses = ("billing_address", "shipping_address")
    for window in _WINDOWS:
        yield from (f"card_count_for_{e}_{window}" for e in (*addresses, "customer", "email", "ip_address"))
        yield from (f"email_count_for_{e}_{window}" for e in (*addresses, "card", "ip"))
        yield f"name_count_for_card_{window}"
        yield f"dispute_count_on_ip_{window}"
        yield from (f"efw_count_on_{e}_{window}" for e in ("card", "ip"))
        yield f"refund_count_on_card_{window}"
    for window in ("all_time", "yearly"):
        yield f"dispute_count_on_card_number_{window}"
    for entity in ("card", "email"):
        for window in ("yearly", "weekly"):
            yield f"total_customers_for_{entity}_{window}"
            yield f"total_customers_with_prior_fraud_activity_for_{entity}_{window}"


def _amounts() -> Iterable[str]:
    yield from (f"amount_in_{currency.lower()}" for currency in EXPONENTS)
    for entity in ("card", "customer"):
        yield from (f"average_usd_amount_{o}_on_{entity}_all_time" for o in ("attempted", "successful"))
        yield from (f"total_usd_amount_{o}_on_{entity}_all_time" for o in ("charged", "failed", "successful"))


def _recencies() -> Iterable[str]:
    moments = (
        "customer_was_created",
        "email_first_seen",
        "email_first_seen_on_stripe",
        "card_first_seen",
        "first_successful_auth_on_card",
    )
    return (f"{unit}_since_{moment}" for unit in ("hours", "minutes", "seconds") for moment in moments)


def _table() -> Iterable[Attribute]:
    for kind, names in (
        (Kind.BOOLEAN, _BOOLEANS),
        (Kind.TEXT, _TEXTS),
        (Kind.CASED, _CASED_TEXTS),
        (Kind.COUNTRY, _COUNTRY_NAMES),
        (Kind.STATE, _STATE_NAMES),
        (Kind.NUMBER, _NUMBERS),
    ):
        yield from (Attribute(name, kind) for name in names.split())
    for name, values in _CLOSED_SETS.items():
        yield Attribute(name, Kind.TEXT, frozenset(values.split()))
    for name in _AFTER_CHECKS.split():
        yield Attribute(name, Kind.CASED, frozenset(_CHECKS.split()), Phase.AFTER)
    for names_of in (_counts(), _amounts(), _recencies()):
        yield from (Attribute(name, Kind.NUMBER) for name in names_of)
    yield from (Attribute(name, Kind.NUMBER, cap=BOUNDED_CAP) for name in _bounded_counts())
    yield Attribute("risk_level", Kind.TEXT, frozenset(RISK_LEVELS), scored=True)
    yield Attribute("risk_score", Kind.NUMBER, cap=99, scored=True)
    yield from (Attribute(name, Kind.NUMBER, cap=99) for name in (*_SCORES.split(), *RISKS))


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType({attribute.name: attribute for attribute in _table()})
"""Name -> attribute, for every built-in name. A model's features are added by `with_features`."""


def with_features(names: Iterable[str]) -> Mapping[str, Attribute]:
    """The table with a model's features as numbers; a built-in name keeps its own type."""
    return {**{name: Attribute(name, Kind.NUMBER) for name in names}, **ATTRIBUTES}
