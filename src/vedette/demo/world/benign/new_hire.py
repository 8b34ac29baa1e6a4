"""Somebody's first day: an account is made, groups are given, and everything is opened for the first time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from vedette.demo.world.benign.on_call import OnCall
from vedette.demo.world.deeds import Line
from vedette.demo.world.logs.cloud import called
from vedette.demo.world.logs.identity import APPS, FACTOR, SSO, START, signed
from vedette.demo.world.places import HOUR, MINUTE


class NewHire(OnCall):
    """Types the password wrongly, opens all applications, and is refused by the cloud account more than once."""

    kind: ClassVar[str] = "new_hire"

    def lines(self) -> Iterable[Line]:
        """The first day."""
        person = self._person()
        time = 9 * HOUR + int(self.rng.integers(-20, 30)) * MINUTE
        mint, office, admin = self.props.mint, self.stage.staff.offices[person.office], self.stage.staff.people[-1]
        for kind in ("user.lifecycle.create", "group.user_membership.add", "user.mfa.factor.activate"):
            record = signed(mint.uuid(), admin, kind, office)
            record["target"] = [{"alternateId": person.email, "type": "User"}]
            yield Line(time, "identity", record)
            time += int(self.rng.integers(1, 4)) * MINUTE
        for wrong in (True, True, False):
            yield Line(time, "identity", signed(mint.uuid(), person, START, office, failed=wrong))
            time += MINUTE // 2
        yield Line(time, "identity", signed(mint.uuid(), person, FACTOR, office))
        for app in APPS:
            time += int(self.rng.exponential(4 * MINUTE))
            record = signed(mint.uuid(), person, SSO, office)
            record["target"].append({"alternateId": app, "type": "AppInstance"})
            yield Line(time, "identity", record)
        for call in ("ListBuckets", "ListUsers", "DescribeInstances", "ListSecrets", "GetSecretValue", "ListKeys"):
            time += int(self.rng.exponential(2 * MINUTE))
            service = "secretsmanager.amazonaws.com" if "Secret" in call else "iam.amazonaws.com"
            error = "AccessDenied" if self.props.chance(0.6) or call == "GetSecretValue" else ""
            yield Line(time, "cloudtrail", called(mint.uuid(), person.arn, service, call, address=office, error=error))
