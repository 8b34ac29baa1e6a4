"""The cloud account: programs under their roles, robots that deploy, engineers who look."""

from __future__ import annotations

from typing import Any

import numpy as np

from vedette.demo.world.logs.book import Book, clock
from vedette.demo.world.logs.columns import Columns
from vedette.demo.world.mint import generator, make_uuids
from vedette.demo.world.places import HOUR
from vedette.demo.world.staff import ACCOUNT, REGION, ROBOTS
from vedette.demo.world.stage import Stage

CALLS = 65_000
"""Calls of programs on a day, at scale 1."""
DEPLOYS = 9
LOOKS = 45
"""Calls that an engineer makes in a shift."""
PROGRAM = (
    ("s3.amazonaws.com", "GetObject", 0.34),
    ("s3.amazonaws.com", "PutObject", 0.22),
    ("sqs.amazonaws.com", "ReceiveMessage", 0.17),
    ("kms.amazonaws.com", "Decrypt", 0.12),
    ("dynamodb.amazonaws.com", "GetItem", 0.1),
    ("sts.amazonaws.com", "AssumeRole", 0.04),
    ("secretsmanager.amazonaws.com", "GetSecretValue", 0.01),
)
PERSON = (
    ("ec2.amazonaws.com", "DescribeInstances", 0.3),
    ("logs.amazonaws.com", "FilterLogEvents", 0.3),
    ("s3.amazonaws.com", "ListBuckets", 0.15),
    ("ecs.amazonaws.com", "DescribeServices", 0.15),
    ("cloudwatch.amazonaws.com", "GetMetricData", 0.09),
    ("iam.amazonaws.com", "ListUsers", 0.01),
)
DEPLOY = ("RegisterTaskDefinition", "UpdateService", "DescribeServices", "PutImage", "DescribeTasks")
SDK, CLI = "aws-sdk-java/2.25", "aws-cli/2.15"


class ProgramLog:
    """Calls of servers and robots under their roles, from inside the network."""

    def __init__(self, stage: Stage, scale: float) -> None:
        rng = generator(stage.seed, "programs")
        self._servers = stage.staff.servers
        count = max(200, round(CALLS * scale))
        kind = rng.choice(len(PROGRAM), count, p=[share for _, _, share in PROGRAM])
        self._columns = Columns(
            rng.integers(0, 24 * HOUR, count), kind, rng.integers(0, len(self._servers), count), make_uuids(rng, count)
        )
        at = np.sort(rng.integers(7 * HOUR, 17 * HOUR, DEPLOYS))
        when = (at[:, None] + np.cumsum(rng.integers(1_000_000, 20_000_000, (DEPLOYS, 24)), axis=1)).ravel()
        self._deploys = Columns(when, make_uuids(rng, len(when)), np.tile(np.arange(24), DEPLOYS))

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        lines = []
        for time, kind, server, name in self._columns.rows(begin, end):
            service, call, _ = PROGRAM[kind]
            host = self._servers[server]
            role = host.rpartition("-")[0]
            wants = f'{{"secretId":"prod/{role}/database"}}' if call == "GetSecretValue" else "null"
            lines.append(
                (
                    time,
                    f'{{"eventVersion":"1.09","userIdentity":{{"type":"AssumedRole",'
                    f'"arn":"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{host}","accountId":"{ACCOUNT}",'
                    f'"accessKeyId":"{access_key(role)}"}},"eventTime":"{book.date}T{clock(time)}Z",'
                    f'"eventSource":"{service}","eventName":"{call}","awsRegion":"{REGION}",'
                    f'"sourceIPAddress":"10.20.{server // 250}.{server % 250 + 4}","userAgent":"{SDK}",'
                    f'"requestParameters":{wants},"eventID":"{name}","recipientAccountId":"{ACCOUNT}"}}'.encode(),
                )
            )
        book.put("cloudtrail", lines)
        for time, name, number in self._deploys.rows(begin, end):
            arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/robot-{ROBOTS[0]}/run"
            record = called(
                name, arn, "ecs.amazonaws.com", DEPLOY[number % len(DEPLOY)], address="10.20.9.9", agent=SDK
            )
            book.note(time, "cloudtrail", record)


class EngineerLog:
    """What engineers look at in their shifts."""

    def __init__(self, stage: Stage) -> None:
        rng = generator(stage.seed, "engineers")
        people = [person for person in stage.staff.of("engineer") if rng.random() < 0.88]
        who = np.repeat(np.arange(len(people)), rng.poisson(LOOKS, len(people)))
        begins = np.array([person.begins for person in people])[who] * HOUR
        self._stage, self._people = stage, people
        self._columns = Columns(
            begins + rng.integers(0, 8 * HOUR, len(who)),
            who,
            rng.choice(len(PERSON), len(who), p=[share for _, _, share in PERSON]),
            make_uuids(rng, len(who)),
        )

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        for time, who, kind, name in self._columns.rows(begin, end):
            person, (service, call, _) = self._people[who], PERSON[kind]
            address = self._stage.staff.address(person)
            book.note(time, "cloudtrail", called(name, person.arn, service, call, address=address))


def called(
    name: str, arn: str, service: str, call: str, *, address: str, agent: str = CLI, wants: Any = None, error: str = ""
) -> dict[str, Any]:
    """A call that somebody made in the cloud account."""
    who = {"type": "AssumedRole", "arn": arn, "accountId": ACCOUNT, "accessKeyId": access_key(arn.rpartition("/")[2])}
    record = {
        "eventVersion": "1.09",
        "userIdentity": who,
        "eventSource": service,
        "eventName": call,
        "awsRegion": REGION,
        "sourceIPAddress": address,
        "userAgent": agent,
        "requestParameters": wants,
        "eventID": name,
        "recipientAccountId": ACCOUNT,
    }
    return {**record, "errorCode": error} if error else record


def access_key(owner: str) -> str:
    """The short-lived key of a session."""
    letters = "".join(character for character in owner.upper() if character.isalpha())
    return f"ASIA{letters:X<16.16}"
