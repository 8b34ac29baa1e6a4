"""The data-loss scan on a seeded corpus: recall, precision and speed, beside two peers.

    python benchmarks/dlp.py [--megabytes 10]

The corpus holds 2,000 card numbers in ten wordings (three of them without any word about cards), 10,000 random 16-digit
ids, 10,000 millisecond timestamps and 5,000 order ids, 400 secrets of eight kinds, and log lines around them. The same
person wrote wordings and scan: figures on somebody else's corpus will be lower. Megabytes a CPU second, best of three;
the peers see the first part of the corpus only, as slow as they are. They run in an environment of their own
(`benchmarks/peers.py`).
"""

from __future__ import annotations

import argparse
import random
import string
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import peers
from vedette.prove.dlp import find_pans, refuse_pans, scan

Truth = list[tuple[int, int]]
CARDS = (
    "card={}",
    '{{"card_number": "{}", "exp": "12/27"}}',
    "payment with card {} declined",
    "<pan>{}</pan>",
    "cc: {} cvv: 123",
    "visa {} ok",
    "customer wrote: please charge {} today",
    "{}",
    "charged {} twice",
    "number: {}, holder: A. Body",
)
IDS = ("id={}", '{{"trace_id": "{}"}}', "request {} took 12 ms", "session={} ok", "ref {} settled", "txn_id: {}")
ORDERS = ("order_id={}", "order {} shipped", '{{"orderId": "{}"}}')
TIMES = ("ts={}", '{{"timestamp": {}}}', "{} INFO started")
PREFIXES = ("4", "51", "55", "2221", "34", "37", "6011", "3530", "62")
ALNUM = string.ascii_letters + string.digits
PRESIDIO = """
import json, sys, time
from presidio_analyzer.predefined_recognizers import CreditCardRecognizer
text, recognizer = open(sys.argv[1]).read(), CreditCardRecognizer()
start = time.process_time()
found = [(each.start, each.end) for each in recognizer.analyze(text, ["CREDIT_CARD"], None)]
print(json.dumps({"seconds": time.process_time() - start, "found": found}))
"""
DETECT_SECRETS = """
import json, sys, time
from detect_secrets import SecretsCollection
from detect_secrets.settings import default_settings
start = time.process_time()
with default_settings():
    secrets = SecretsCollection()
    secrets.scan_file(sys.argv[1])
lines = sorted({secret.line_number for _, secret in secrets})
print(json.dumps({"seconds": time.process_time() - start, "lines": lines}))
"""


def with_check(body: str) -> str:
    """The body and its check digit."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        number = int(digit) * (2 - place % 2)
        total += number - 9 * (number > 9)
    return body + str(-total % 10)


def card(rng: random.Random) -> str:
    prefix = rng.choice(PREFIXES)
    length = 15 if prefix in {"34", "37"} else 16
    number = with_check(prefix + "".join(rng.choice(string.digits) for _ in range(length - 1 - len(prefix))))
    split = rng.choice(("", "", " ", "-"))
    if not split:
        return number
    groups = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    cuts = [sum(groups[:n]) for n in range(len(groups) + 1)]
    return split.join(number[a:b] for a, b in pairwise(cuts))


def secret(rng: random.Random) -> str:
    def some(count: int, letters: str = ALNUM) -> str:
        return "".join(rng.choice(letters) for _ in range(count))

    kinds: tuple[Callable[[], str], ...] = (
        lambda: "AKIA" + some(16, string.ascii_uppercase + "234567"),
        lambda: "ghp_" + some(36),
        lambda: "sk_live_" + some(24),
        lambda: f"xoxb-{some(12, '123456789')}-{some(12, '123456789')}-{some(24)}",
        lambda: f"eyJ{some(33)}.eyJ{some(60)}.{some(43)}",
        lambda: "AIza" + some(35),
        lambda: f'api_key = "{some(40)}"',
        lambda: f"postgres://app:{some(20)}@db/money",
    )
    return rng.choice(kinds)()


def noise(rng: random.Random) -> str:
    """A log line with times, addresses, ids and sizes."""
    minute, small, wide = rng.randint(10, 59), rng.randint(1, 99_999), rng.getrandbits(128)
    return (
        f'{{"eventTime":"2026-03-02T12:{minute}:00Z","sourceIPAddress":"10.1.{minute}.7","id":"{wide:032x}"}}',
        f"192.0.2.{minute} - - [03/Mar/2026:10:00:00 +0000] GET /v1/charges/{wide:x} 200 {small}",
        f"{1772000000000 + small} INFO worker-{minute} settled batch of {small} in {wide / 2**128:.6f} s",
        "the quick response team closed the case after the customer called back about the late delivery",
        f'{{"amount_minor":{small},"ts":{1772000000000000 + wide % 2**40},"customer":"c-{small}"}}',
    )[rng.randrange(5)]


def corpus(seed: int, megabytes: int) -> tuple[str, Truth, list[int]]:
    """The text, where its card numbers are, and in which lines (from 1) its secrets."""
    rng = random.Random(seed)
    planted = [("card", rng.choice(CARDS), card(rng)) for _ in range(2_000)]
    planted += [("", rng.choice(IDS), f"{rng.randrange(10**15, 10**16)}") for _ in range(10_000)]
    planted += [("", rng.choice(TIMES), f"{1_772_000_000_000 + rng.randrange(10**9)}") for _ in range(10_000)]
    planted += [("", rng.choice(ORDERS), f"{rng.randrange(10**15, 10**16)}") for _ in range(5_000)]
    planted += [("secret", "{}", secret(rng)) for _ in range(400)]
    rng.shuffle(planted)
    between = max((megabytes * 1_000_000 - 1_200_000) // 95 // len(planted), 0)
    lines, size, cards, secrets = [], 0, [], []
    for kind, wording, value in planted:
        line = wording.format(value)
        if kind == "card":
            start = size + line.index(value)
            cards.append((start, start + len(value)))
        if kind == "secret":
            secrets.append(len(lines) + 1)
        for each in (line, *(noise(rng) for _ in range(between))):
            lines.append(each)
            size += len(each) + 1
    return "\n".join(lines) + "\n", cards, secrets


def quality(found: Truth, truth: Truth) -> str:
    right = len(set(found) & set(truth))
    return f"recall {right / len(truth):.4f}, precision {right / max(len(found), 1):.4f} ({len(found):,} found)"


def measure(act: Callable[[bytes], object], data: bytes) -> float:
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        act(data)
        best = max(best, len(data) / 1e6 / (time.process_time() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=10)
    args = parser.parse_args()
    text, cards, secret_lines = corpus(7, args.megabytes)
    data = text.encode()
    print(f"{len(data) / 1e6:.1f} MB, {len(cards):,} card numbers, {len(secret_lines)} secrets")
    for name, context in (("with context", True), ("without context", False)):
        found = scan(data, context=context)
        numbers = [(each.start, each.end) for each in found if each.kind.startswith("pan")]
        speed = measure(lambda raw, c=context: scan(raw, context=c), data)
        print(f"  vedette scan, {name:<18}{speed:>8.1f} MB/s  {quality(numbers, cards)}")
    lines = {data.count(b"\n", 0, each.start) + 1 for each in scan(data) if each.kind.startswith("secret.")}
    right = len(lines & set(secret_lines))
    print(f"  secrets: recall {right / len(secret_lines):.4f}, precision {right / max(len(lines), 1):.4f}")
    print(f"  vedette find_pans {'':<18}{measure(find_pans, data):>8.1f} MB/s")
    request = {"amount_minor": 1999, "currency": "EUR", "source": "tok_8f2k", "merchant": "m-1", "metadata": {"a": "b"}}
    start = time.process_time()
    for _ in range(20_000):
        refuse_pans(request)
    print(f"  refuse_pans on a charge request: {(time.process_time() - start) / 20_000 * 1e6:.1f} us")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for name, code, size in (("presidio", PRESIDIO, 2_000_000), ("detect-secrets", DETECT_SECRETS, 150_000)):
            end = text.index("\n", min(size, len(text) - 1)) + 1
            Path(file.name).write_text(text[:end])
            answer = peers.ask(code, file.name)
            if not answer:
                continue
            speed = end / 1e6 / answer["seconds"]
            if "found" in answer:
                told = quality([(a, b) for a, b in answer["found"]], [each for each in cards if each[1] <= end])
            else:
                there = {line for line in secret_lines if line <= text.count("\n", 0, end)}
                hit = len(there & set(answer["lines"]))
                told = f"recall {hit / max(len(there), 1):.4f}, precision {hit / max(len(answer['lines']), 1):.4f}"
            print(f"  {name:<32}{speed:>8.2f} MB/s  {told}")


if __name__ == "__main__":
    main()
