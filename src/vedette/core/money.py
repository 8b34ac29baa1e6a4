"""Money: whole minor units of an ISO 4217 currency. Floats never enter."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.core.errors import DataError

MAX_MINOR = 2**127 - 1
"""Largest amount: half of what the ledger's 128-bit balances hold, so that a sum of two still fits."""

_TWO_DECIMALS = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP "
    "CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
    "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN "
    "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW ZWG"
)
EXPONENTS: dict[str, int] = {
    **dict.fromkeys(_TWO_DECIMALS.split(), 2),
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}
"""Currency code -> number of decimals of its minor unit (ISO 4217 table A.1, without funds and metals)."""


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """An amount that is never negative; direction is told by the accounts it moves between.

    Raises:
        DataError: `money.amount.invalid` (not a whole number, negative, above `MAX_MINOR`),
            `money.currency.unknown` (not in `EXPONENTS`).
    """

    amount_minor: int
    """Whole minor units: cents for EUR, yen for JPY, fils for KWD."""
    currency: str
    """ISO 4217 alphabetic code, upper case."""

    def __post_init__(self) -> None:
        amount: object = self.amount_minor
        if type(amount) is not int or not 0 <= amount <= MAX_MINOR:
            raise DataError(
                "money.amount.invalid",
                "amount must be a whole number of minor units, zero or more",
                hint="send cents as an integer: 1999 means 19.99",
                at="$.amount_minor",
            )
        if self.currency not in EXPONENTS:
            raise DataError(
                "money.currency.unknown",
                f"unknown currency `{self.currency!s:.8}`",
                hint="use an upper-case ISO 4217 code such as EUR",
                at="$.currency",
            )

    @property
    def exponent(self) -> int:
        """Decimals of the minor unit: 0, 2 or 3."""
        return EXPONENTS[self.currency]

    def __str__(self) -> str:
        if not self.exponent:
            return f"{self.amount_minor} {self.currency}"
        major, minor = divmod(self.amount_minor, 10**self.exponent)
        return f"{major}.{minor:0{self.exponent}d} {self.currency}"
