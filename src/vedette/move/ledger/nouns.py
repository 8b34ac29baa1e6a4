"""Account and Transfer, their flags, and the status every request gets.

The names and their meaning are those TigerBeetle publishes. Amounts and ids are unsigned 128-bit integers; ids 0 and
`U128_MAX` are reserved.
"""

from __future__ import annotations

from enum import IntFlag, StrEnum
from typing import Final

import msgspec

from vedette.core.errors import DataError

U128_MAX: Final = 2**128 - 1
U64_MAX: Final = 2**64 - 1
U32_MAX: Final = 2**32 - 1
U16_MAX: Final = 2**16 - 1
TIMESTAMP_MAX: Final = 2**63 - 1
"""Timestamps are nanoseconds UTC in 63 bits."""
NANOS: Final = 1_000_000_000
"""Nanoseconds in a second."""
MAX_BATCH: Final = 8_190
"""Most accounts or transfers in one call; bounds the memory and the lock time of one transaction."""


class AccountFlags(IntFlag):
    """What an account allows, in published bit order and by published names; capitals are the same flags.

    Any further bit is kept and refused with `reserved_flag`.
    """

    linked = 1
    """The next account of the batch belongs to the same chain: all of it is created or none."""
    debits_must_not_exceed_credits = 2
    """Pending and posted debits together never pass posted credits: a wallet, a merchant's balance."""
    credits_must_not_exceed_debits = 4
    history = 8
    """Its balances are kept as they were after every movement; see `Ledger.get_account_balances`."""
    imported = 16
    """Its timestamp is the caller's, from another system of record."""
    closed = 32
    """Refuses every transfer but the void of a pending one. Set at creation or by a closing transfer."""

    LINKED = linked
    DEBITS_MUST_NOT_EXCEED_CREDITS = debits_must_not_exceed_credits
    CREDITS_MUST_NOT_EXCEED_DEBITS = credits_must_not_exceed_debits
    HISTORY = history
    IMPORTED = imported
    CLOSED = closed


class TransferFlags(IntFlag):
    """What a transfer does, in published bit order and by published names; capitals are the same flags.

    Any further bit is kept and refused with `reserved_flag`.
    """

    linked = 1
    """The next transfer of the batch belongs to the same chain: all of it happens or none."""
    pending = 2
    """Reserve the amount; a later transfer posts or voids it."""
    post_pending_transfer = 4
    """Post the transfer `pending_id`, up to its amount (`U128_MAX` means all of it)."""
    void_pending_transfer = 8
    """Give the reservation of `pending_id` back (amount 0 means its amount)."""
    balancing_debit = 16
    """Move at most what keeps the debit account's debits within its posted credits."""
    balancing_credit = 32
    """Move at most what keeps the credit account's credits within its posted debits."""
    closing_debit = 64
    """Close the debit account; only on a pending transfer, whose void opens it again."""
    closing_credit = 128
    imported = 256
    """Its timestamp is the caller's, from another system of record."""

    LINKED = linked
    PENDING = pending
    POST_PENDING_TRANSFER = post_pending_transfer
    VOID_PENDING_TRANSFER = void_pending_transfer
    BALANCING_DEBIT = balancing_debit
    BALANCING_CREDIT = balancing_credit
    CLOSING_DEBIT = closing_debit
    CLOSING_CREDIT = closing_credit
    IMPORTED = imported


class PendingStatus(StrEnum):
    """Where a two-phase transfer is. It leaves `PENDING` once and for all."""

    PENDING = "pending"
    POSTED = "posted"
    VOIDED = "voided"
    EXPIRED = "expired"


class AccountStatus(StrEnum):
    """Answer to one account of a batch, in order of precedence."""

    CREATED = "created"
    LINKED_EVENT_FAILED = "linked_event_failed"
    LINKED_EVENT_CHAIN_OPEN = "linked_event_chain_open"
    IMPORTED_EVENT_EXPECTED = "imported_event_expected"
    IMPORTED_EVENT_NOT_EXPECTED = "imported_event_not_expected"
    TIMESTAMP_MUST_BE_ZERO = "timestamp_must_be_zero"
    IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE = "imported_event_timestamp_out_of_range"
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE = "imported_event_timestamp_must_not_advance"
    RESERVED_FIELD = "reserved_field"
    RESERVED_FLAG = "reserved_flag"
    ID_MUST_NOT_BE_ZERO = "id_must_not_be_zero"
    ID_MUST_NOT_BE_INT_MAX = "id_must_not_be_int_max"
    EXISTS_WITH_DIFFERENT_FLAGS = "exists_with_different_flags"
    EXISTS_WITH_DIFFERENT_USER_DATA_128 = "exists_with_different_user_data_128"
    EXISTS_WITH_DIFFERENT_USER_DATA_64 = "exists_with_different_user_data_64"
    EXISTS_WITH_DIFFERENT_USER_DATA_32 = "exists_with_different_user_data_32"
    EXISTS_WITH_DIFFERENT_LEDGER = "exists_with_different_ledger"
    EXISTS_WITH_DIFFERENT_CODE = "exists_with_different_code"
    EXISTS = "exists"
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = "flags_are_mutually_exclusive"
    DEBITS_PENDING_MUST_BE_ZERO = "debits_pending_must_be_zero"
    DEBITS_POSTED_MUST_BE_ZERO = "debits_posted_must_be_zero"
    CREDITS_PENDING_MUST_BE_ZERO = "credits_pending_must_be_zero"
    CREDITS_POSTED_MUST_BE_ZERO = "credits_posted_must_be_zero"
    LEDGER_MUST_NOT_BE_ZERO = "ledger_must_not_be_zero"
    CODE_MUST_NOT_BE_ZERO = "code_must_not_be_zero"
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS = "imported_event_timestamp_must_not_regress"


class TransferStatus(StrEnum):
    """Answer to one transfer of a batch, in order of precedence."""

    CREATED = "created"
    LINKED_EVENT_FAILED = "linked_event_failed"
    LINKED_EVENT_CHAIN_OPEN = "linked_event_chain_open"
    IMPORTED_EVENT_EXPECTED = "imported_event_expected"
    IMPORTED_EVENT_NOT_EXPECTED = "imported_event_not_expected"
    TIMESTAMP_MUST_BE_ZERO = "timestamp_must_be_zero"
    IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE = "imported_event_timestamp_out_of_range"
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE = "imported_event_timestamp_must_not_advance"
    RESERVED_FLAG = "reserved_flag"
    ID_MUST_NOT_BE_ZERO = "id_must_not_be_zero"
    ID_MUST_NOT_BE_INT_MAX = "id_must_not_be_int_max"
    EXISTS_WITH_DIFFERENT_FLAGS = "exists_with_different_flags"
    EXISTS_WITH_DIFFERENT_PENDING_ID = "exists_with_different_pending_id"
    EXISTS_WITH_DIFFERENT_TIMEOUT = "exists_with_different_timeout"
    EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID = "exists_with_different_debit_account_id"
    EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID = "exists_with_different_credit_account_id"
    EXISTS_WITH_DIFFERENT_AMOUNT = "exists_with_different_amount"
    EXISTS_WITH_DIFFERENT_USER_DATA_128 = "exists_with_different_user_data_128"
    EXISTS_WITH_DIFFERENT_USER_DATA_64 = "exists_with_different_user_data_64"
    EXISTS_WITH_DIFFERENT_USER_DATA_32 = "exists_with_different_user_data_32"
    EXISTS_WITH_DIFFERENT_LEDGER = "exists_with_different_ledger"
    EXISTS_WITH_DIFFERENT_CODE = "exists_with_different_code"
    EXISTS = "exists"
    ID_ALREADY_FAILED = "id_already_failed"
    """An earlier transfer of this id met a passing condition; the id stays burnt, so a retry cannot move money late."""
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = "flags_are_mutually_exclusive"
    DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO = "debit_account_id_must_not_be_zero"
    DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX = "debit_account_id_must_not_be_int_max"
    CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO = "credit_account_id_must_not_be_zero"
    CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX = "credit_account_id_must_not_be_int_max"
    ACCOUNTS_MUST_BE_DIFFERENT = "accounts_must_be_different"
    PENDING_ID_MUST_BE_ZERO = "pending_id_must_be_zero"
    PENDING_ID_MUST_NOT_BE_ZERO = "pending_id_must_not_be_zero"
    PENDING_ID_MUST_NOT_BE_INT_MAX = "pending_id_must_not_be_int_max"
    PENDING_ID_MUST_BE_DIFFERENT = "pending_id_must_be_different"
    TIMEOUT_RESERVED_FOR_PENDING_TRANSFER = "timeout_reserved_for_pending_transfer"
    CLOSING_TRANSFER_MUST_BE_PENDING = "closing_transfer_must_be_pending"
    LEDGER_MUST_NOT_BE_ZERO = "ledger_must_not_be_zero"
    CODE_MUST_NOT_BE_ZERO = "code_must_not_be_zero"
    DEBIT_ACCOUNT_NOT_FOUND = "debit_account_not_found"
    CREDIT_ACCOUNT_NOT_FOUND = "credit_account_not_found"
    ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER = "accounts_must_have_the_same_ledger"
    TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS = "transfer_must_have_the_same_ledger_as_accounts"
    PENDING_TRANSFER_NOT_FOUND = "pending_transfer_not_found"
    PENDING_TRANSFER_NOT_PENDING = "pending_transfer_not_pending"
    PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID = "pending_transfer_has_different_debit_account_id"
    PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID = "pending_transfer_has_different_credit_account_id"
    PENDING_TRANSFER_HAS_DIFFERENT_LEDGER = "pending_transfer_has_different_ledger"
    PENDING_TRANSFER_HAS_DIFFERENT_CODE = "pending_transfer_has_different_code"
    EXCEEDS_PENDING_TRANSFER_AMOUNT = "exceeds_pending_transfer_amount"
    PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT = "pending_transfer_has_different_amount"
    PENDING_TRANSFER_ALREADY_POSTED = "pending_transfer_already_posted"
    PENDING_TRANSFER_ALREADY_VOIDED = "pending_transfer_already_voided"
    PENDING_TRANSFER_EXPIRED = "pending_transfer_expired"
    IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS = "imported_event_timestamp_must_not_regress"
    IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT = "imported_event_timestamp_must_postdate_debit_account"
    IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT = "imported_event_timestamp_must_postdate_credit_account"
    IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO = "imported_event_timeout_must_be_zero"
    DEBIT_ACCOUNT_ALREADY_CLOSED = "debit_account_already_closed"
    CREDIT_ACCOUNT_ALREADY_CLOSED = "credit_account_already_closed"
    OVERFLOWS_DEBITS_PENDING = "overflows_debits_pending"
    OVERFLOWS_CREDITS_PENDING = "overflows_credits_pending"
    OVERFLOWS_DEBITS_POSTED = "overflows_debits_posted"
    OVERFLOWS_CREDITS_POSTED = "overflows_credits_posted"
    OVERFLOWS_DEBITS = "overflows_debits"
    OVERFLOWS_CREDITS = "overflows_credits"
    OVERFLOWS_TIMEOUT = "overflows_timeout"
    EXCEEDS_CREDITS = "exceeds_credits"
    EXCEEDS_DEBITS = "exceeds_debits"


TRANSIENT: Final = frozenset(
    {
        TransferStatus.DEBIT_ACCOUNT_NOT_FOUND,
        TransferStatus.CREDIT_ACCOUNT_NOT_FOUND,
        TransferStatus.PENDING_TRANSFER_NOT_FOUND,
        TransferStatus.DEBIT_ACCOUNT_ALREADY_CLOSED,
        TransferStatus.CREDIT_ACCOUNT_ALREADY_CLOSED,
        TransferStatus.EXCEEDS_CREDITS,
        TransferStatus.EXCEEDS_DEBITS,
    }
)
"""Statuses that might not come again for the same transfer: they burn its id."""


class Account(msgspec.Struct, frozen=True):
    """An account of one ledger. Balances are sums of transfers; nobody sets them.

    Raises:
        DataError: `ledger.field.range` when a number does not fit its field.
    """

    id: int
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    reserved: int = 0
    ledger: int = 0
    """32 bits: which currency; only accounts of one ledger exchange money."""
    code: int = 0
    """16 bits: what kind of account; the caller's own list."""
    flags: int = 0
    timestamp: int = 0
    """Nanoseconds UTC; 0 in a request unless `imported`."""

    def __post_init__(self) -> None:
        try:
            flags = self.flags if type(self.flags) is int else _plain(self)
            wide = self.id | self.user_data_128 | self.debits_pending | self.debits_posted
            wide |= self.credits_pending | self.credits_posted
            narrow = (self.user_data_32 | self.ledger | self.reserved | flags) >> 32
            fits = not (wide >> 128 or (self.user_data_64 | self.timestamp) >> 64 or narrow or self.code >> 16)
        except TypeError:
            fits = False
        if not fits:
            _refuse(self, _ACCOUNT_WIDTHS)


class Transfer(msgspec.Struct, frozen=True):
    """One balanced, immutable movement of `amount` from the debit account to the credit account.

    Raises:
        DataError: `ledger.field.range` when a number does not fit its field.
    """

    id: int
    """128 bits, chosen by the caller; the same id never moves money twice."""
    debit_account_id: int = 0
    """0 in a post or void: taken from the pending transfer. So are `ledger`, `code` and the user data."""
    credit_account_id: int = 0
    amount: int = 0
    """Minor units of the ledger's currency."""
    pending_id: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    timeout: int = 0
    """Seconds until a pending transfer expires; 0 means never."""
    ledger: int = 0
    code: int = 0
    flags: int = 0
    timestamp: int = 0
    """Nanoseconds UTC; 0 in a request unless `imported`. Grows strictly along every account."""

    def __post_init__(self) -> None:
        # One test for all fields of a width: a batch makes thousands of these.
        try:
            flags = self.flags if type(self.flags) is int else _plain(self)
            wide = self.id | self.debit_account_id | self.credit_account_id | self.amount
            wide |= self.pending_id | self.user_data_128
            narrow = (self.user_data_32 | self.timeout | self.ledger | flags) >> 32
            fits = not (wide >> 128 or (self.user_data_64 | self.timestamp) >> 64 or narrow or self.code >> 16)
        except TypeError:
            fits = False
        if not fits:
            _refuse(self, _TRANSFER_WIDTHS)

    @property
    def expires_at(self) -> int | None:
        """When the reservation lapses, nanoseconds UTC; None for a transfer that does not expire."""
        return self.timestamp + self.timeout * NANOS if self.timeout else None


_ACCOUNT_WIDTHS: Final = (
    *((name, U128_MAX) for name in ("id", "user_data_128", "debits_pending", "debits_posted")),
    *((name, U128_MAX) for name in ("credits_pending", "credits_posted")),
    *((name, U64_MAX) for name in ("user_data_64", "timestamp")),
    *((name, U32_MAX) for name in ("user_data_32", "ledger", "reserved", "flags")),
    ("code", U16_MAX),
)
_TRANSFER_WIDTHS: Final = (
    *((name, U128_MAX) for name in ("id", "debit_account_id", "credit_account_id", "amount", "pending_id")),
    *((name, U128_MAX) for name in ("user_data_128",)),
    *((name, U64_MAX) for name in ("user_data_64", "timestamp")),
    *((name, U32_MAX) for name in ("user_data_32", "timeout", "ledger", "flags")),
    ("code", U16_MAX),
)


def _plain(noun: Account | Transfer) -> int:
    """Makes an `IntFlag` a plain number: each operation on one costs a microsecond, and a batch makes thousands."""
    flags = int(noun.flags)
    if flags != noun.flags:
        raise TypeError
    msgspec.structs.force_setattr(noun, "flags", flags)
    return flags


def _refuse(noun: Account | Transfer, widths: tuple[tuple[str, int], ...]) -> None:
    for name, largest in widths:
        value = getattr(noun, name)
        if not isinstance(value, int) or not 0 <= value <= largest:
            raise DataError(
                "ledger.field.range",
                f"`{name}` must be a whole number from 0 to 2^{largest.bit_length()} - 1",
                at=f"$.{name}",
            )
