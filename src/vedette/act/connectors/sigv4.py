"""AWS Signature Version 4 for one request (AWS General Reference, "Signing AWS API requests"); pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


def sign(
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    *,
    key_id: str,
    secret: str,
    region: str,
    service: str,
    now: int,
) -> dict[str, str]:
    """The headers of a signed POST.

    Args:
        url: Whole, without a query.
        headers: What is sent beside `host` and `x-amz-date`; all of it is signed.
        content: The body.
        key_id: Access key.
        secret: Its secret.
        region: Such as `eu-central-1`.
        service: Such as `iam`.
        now: Microseconds UTC; AWS refuses what is more than 5 minutes off.
    """
    parts = urlsplit(url)
    stamp = datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    known = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    known |= {"host": parts.netloc, "x-amz-date": stamp}
    names = ";".join(sorted(known))
    lines = "".join(f"{name}:{known[name]}\n" for name in sorted(known))
    canonical = "\n".join(
        ["POST", quote(parts.path or "/", safe="/~"), "", lines, names, hashlib.sha256(content).hexdigest()]
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    wanted = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signing = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.digest(signing, wanted.encode(), "sha256").hex()
    credential = f"{_ALGORITHM} Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "X-Amz-Date": stamp, "Authorization": credential}
