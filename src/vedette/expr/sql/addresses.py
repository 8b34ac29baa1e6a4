"""IPv4 networks as patterns over the address's text."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

_BYTE = 255


def v4_pattern(network: IPv4Network) -> str:
    r"""A pattern that matches exactly the addresses of a network: four decimal bytes without leading zeros.

    Example:
        >>> v4_pattern(IPv4Network("10.0.16.0/23"))
        '\\A10[.]0[.](?:16|17)[.](?:[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\\z'
    """
    low, high = network.network_address.packed, network.broadcast_address.packed
    return r"\A" + "[.]".join(_byte(first, last) for first, last in zip(low, high, strict=True)) + r"\z"


def _byte(low: int, high: int) -> str:
    if low == high:
        return str(low)
    if (low, high) == (0, _BYTE):
        return "(?:[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"
    return f"(?:{'|'.join(_numbers(range(low, high + 1)))})"


def _numbers(numbers: Iterable[int]) -> Iterable[str]:
    return (str(number) for number in numbers)
