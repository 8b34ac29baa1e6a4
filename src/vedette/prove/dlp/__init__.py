"""Data-loss scan: card numbers and secrets found, refused and scrubbed, and never kept.

`scan` finds both in bytes. `find_pans`, `refuse_pans` and `scrub` are what the product's own edges use.

Example:
    >>> [(found.kind, found.start) for found in scan(b"card 4242 4242 4242 4242, order_id 4242424242424242")]
    [('pan.test', 5)]
"""

from vedette.prove.dlp.pans import BRANDS, CardNumber, find_pans, is_luhn, mask, refuse_pans, scrub, to_brand
from vedette.prove.dlp.scan import Finding, scan

__all__ = [
    "BRANDS",
    "CardNumber",
    "Finding",
    "find_pans",
    "is_luhn",
    "mask",
    "refuse_pans",
    "scan",
    "scrub",
    "to_brand",
]
