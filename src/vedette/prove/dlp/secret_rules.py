"""What secrets look like: a literal that must be near, and an expression that must match.

The names are those that scanners of repositories use, so that findings can be compared.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class SecretRule(NamedTuple):
    """One kind of secret."""

    id: str
    words: tuple[str, ...]
    """Literals, in any case. The expression is tried where one of them begins and nowhere else."""
    pattern: re.Pattern[bytes]
    """Its group `secret`, or the whole, is the secret."""
    reach: int = 400
    """Bytes behind the literal in which its match may end."""
    back: int = 0
    """Bytes before the literal where the expression begins."""
    entropy: float = 0.0
    """Least bits a character (Shannon) of the secret; below it stands a word or a placeholder."""


def _rule(id_: str, words: str, pattern: str, entropy: float = 0.0, *, reach: int = 400, back: int = 0) -> SecretRule:
    return SecretRule(id_, tuple(words.split()), re.compile(pattern.encode(), re.ASCII), reach, back, entropy)


_END = r"(?![0-9A-Za-z_\-])"
_ASSIGNED = r"""["'` ]{0,3}(?:=|:|=>|:=|\|\|:|,|\?=)[\s"'`=]{0,5}"""

RULES: tuple[SecretRule, ...] = (
    _rule("aws-access-token", "akia asia abia acca", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b", 3.0),
    _rule(
        "aws-secret-access-key",
        "secretaccesskey secret_access_key secret-access-key secret_key secretkey secret-key",
        r"(?i:secret[_-]?(?:access[_-]?)?key)" + _ASSIGNED + r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        3.5,
    ),
    _rule("github-pat", "ghp_", r"ghp_[0-9A-Za-z]{36}" + _END, 3.0),
    _rule("github-oauth", "gho_", r"gho_[0-9A-Za-z]{36}" + _END, 3.0),
    _rule("github-app-token", "ghu_ ghs_", r"gh[us]_[0-9A-Za-z]{36}" + _END, 3.0),
    _rule("github-refresh-token", "ghr_", r"ghr_[0-9A-Za-z]{36}" + _END, 3.0),
    _rule("github-fine-grained-pat", "github_pat_", r"github_pat_\w{82}" + _END, 3.0),
    _rule("gitlab-pat", "glpat-", r"glpat-[\w-]{20}(?![\w-])", 3.0),
    _rule("gitlab-runner-authentication-token", "glrt-", r"glrt-[0-9A-Za-z_\-]{20}(?![\w-])", 3.0),
    _rule(
        "stripe-access-token",
        "sk_test sk_live sk_prod rk_test rk_live rk_prod",
        r"\b[sr]k_(?:test|live|prod)_[0-9A-Za-z]{10,99}\b",
        2.0,
    ),
    _rule("webhook-signing-secret", "whsec_", r"\bwhsec_[0-9A-Za-z+/_\-]{24,128}={0,2}", 3.0),
    _rule(
        "vedette-api-key",
        "vk_test_ vk_live_ va_test_ va_live_ vp_ vs_",
        r"\b(?:v[ka]_(?:test|live)|v[ps])_[0-9A-Za-z_\-]{20,}",
        3.0,
    ),
    _rule("slack-bot-token", "xoxb", r"xoxb-[0-9]{10,13}-[0-9]{10,13}[0-9A-Za-z-]*", 2.5),
    _rule("slack-user-token", "xoxp- xoxe-", r"xox[pe](?:-[0-9]{10,13}){3}-[0-9A-Za-z-]{28,34}", 2.0),
    _rule("slack-app-token", "xapp", r"(?i:xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+)", 2.0),
    _rule(
        "slack-webhook-url",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[0-9A-Za-z+/]{43,56}",
    ),
    _rule(
        "private-key",
        "-----begin",
        r"-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----[\s\S]{64,20000}?-----END[ A-Z0-9_-]{0,100}"
        r"KEY(?: BLOCK)?-----",
        reach=21_000,
    ),
    _rule("jwt", "ey", r"\bey[0-9A-Za-z]{17,}\.ey[0-9A-Za-z/\\_-]{17,}\.[0-9A-Za-z/\\_-]{10,}={0,2}", 3.0, reach=4_000),
    _rule("gcp-api-key", "aiza", r"\bAIza[\w-]{35}(?![\w-])", 3.5),
    _rule("npm-access-token", "npm_", r"\bnpm_[0-9A-Za-z]{36}\b", 2.0),
    _rule("pypi-upload-token", "pypi-ageichlwas5vcmc", r"pypi-AgEIcHlwaS5vcmc[\w-]{50,1000}", 3.0, reach=1_100),
    _rule("sendgrid-api-token", "sg.", r"\bSG\.[0-9A-Za-z=_\-.]{66}(?![0-9A-Za-z=_\-.])", 2.0),
    _rule("twilio-api-key", "sk", r"\bSK[0-9a-f]{32}\b", 3.0),
    _rule("mailchimp-api-key", "mailchimp", r"(?i:mailchimp)[^\n]{0,40}?(?P<secret>[0-9a-f]{32}-us\d\d)\b"),
    _rule("shopify-access-token", "shpat_", r"shpat_[0-9A-Fa-f]{32}" + _END, 2.0),
    _rule("shopify-custom-access-token", "shpca_", r"shpca_[0-9A-Fa-f]{32}" + _END, 2.0),
    _rule("shopify-private-app-access-token", "shppa_", r"shppa_[0-9A-Fa-f]{32}" + _END, 2.0),
    _rule("shopify-shared-secret", "shpss_", r"shpss_[0-9A-Fa-f]{32}" + _END, 2.0),
    _rule("square-access-token", "sq0atp- eaaa", r"\b(?:EAAA|sq0atp-)[\w-]{22,60}(?![\w-])", 2.0),
    _rule("digitalocean-pat", "dop_v1_", r"\bdop_v1_[0-9a-f]{64}\b", 3.0),
    _rule("databricks-api-token", "dapi", r"\bdapi[0-9a-f]{32}(?:-\d)?\b", 3.0),
    _rule("vault-service-token", "hvs.", r"\bhvs\.[\w-]{90,120}(?![\w-])", 3.5),
    _rule("age-secret-key", "age-secret-key-1", r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    _rule(
        "azure-ad-client-secret",
        "q~",
        r"(?<![\w~.-])(?P<secret>[0-9A-Za-z_~.]{3}\dQ~[0-9A-Za-z_~.-]{31,34})(?![\w~.-])",
        3.0,
        back=4,
    ),
    _rule("huggingface-access-token", "hf_", r"\bhf_[0-9A-Za-z]{34}\b", 2.0),
    _rule("atlassian-api-token", "atatt3", r"\bATATT3[0-9A-Za-z_\-=]{180,200}", 3.5),
    _rule("linear-api-key", "lin_api_", r"\blin_api_[0-9A-Za-z]{40}\b", 2.0),
    _rule("postman-api-token", "pmak-", r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}\b", 3.0),
    _rule("doppler-api-token", "dp.pt.", r"\bdp\.pt\.[0-9A-Za-z]{43}\b", 2.0),
    _rule("1password-service-account-token", "ops_eyj", r"\bops_eyJ[0-9A-Za-z+/]{250,}={0,3}", 4.0, reach=4_000),
    _rule("telegram-bot-api-token", "telegr", r"(?i:telegr)[^\n]{0,60}?(?P<secret>[0-9]{5,16}:A[\w-]{34})(?![\w-])"),
    _rule(
        "url-password",
        "://",
        r"(?<=[a-z0-9])://[^\s/:@'\"]{1,64}:(?P<secret>[^\s/:@'\"${}<>*]{6,128})@[\w.-]+",
        2.0,
    ),
    _rule(
        "generic-api-key",
        "api_key apikey api-key api.key secret password passwd token credential auth_key authkey auth-key"
        " access_key accesskey access-key",
        r"(?i:api[_.-]?key|secret|passw(?:or)?d|token|credentials?|auth[_-]?key|access[_-]?key)[0-9A-Za-z_.-]{0,20}"
        + _ASSIGNED
        + r"(?P<secret>[0-9A-Za-z_.=+/\-]{16,150})(?![0-9A-Za-z_.=+/\-])",
        3.5,
    ),
)
"""The last one takes what no other did."""
