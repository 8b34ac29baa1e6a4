"""AWS over its query protocol: disable an access key, deny a person everything, snapshot a volume.

A connection holds `key_id`, `secret`, `region`, and `url` only where the endpoint is not AWS's own. Disabling and
denying ask for a state. A snapshot carries the idempotency key as a tag, and a call that comes again looks for it
first: EC2 takes no client token for snapshots.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import msgspec

from vedette.act.actions import CHANGED, ActionCall, ActionResult, Argument, Artefact, Repeats, Signature
from vedette.act.connectors.connector import CONNECTION, TIMEOUT_S, Action, Reach, check, read_connection
from vedette.act.connectors.sigv4 import sign
from vedette.core.errors import PermanentError, TransientError

POLICY = "VedetteQuarantine"
DENY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
TAG = "vedette:key"
_VERSIONS = {"iam": "2010-05-08", "ec2": "2016-11-15"}
_BUSY = frozenset(
    {"Throttling", "ThrottlingException", "RequestLimitExceeded", "SnapshotCreationPerVolumeRateExceeded"}
)
_MISSING = 404


class _Aws:
    def __init__(self, call: ActionCall, reach: Reach, service: str) -> None:
        self._reach = reach
        self._name = call.arguments["connection"]
        self._values = read_connection(reach, self._name, "key_id", "secret", "region")
        self._service = service

    def ask(
        self, action: str, more: Mapping[str, str] | None = None, *, accept: tuple[int, ...] = (), **parameters: str
    ) -> ET.Element | None:
        """One request; None when its status is one of `accept`."""
        values, service = self._values, self._service
        region = "us-east-1" if service == "iam" else values["region"]
        host = "iam.amazonaws.com" if service == "iam" else f"ec2.{region}.amazonaws.com"
        url = values.get("url") or f"https://{host}/"
        content = urlencode({"Action": action, "Version": _VERSIONS[service], **(more or {}), **parameters}).encode()
        plain = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        keys = {"key_id": values["key_id"], "secret": values["secret"], "region": region, "service": service}
        headers = sign(url, plain, content, **keys, now=self._reach.clock.now())
        answer = self._reach.egress.request("POST", url, headers=headers, content=content, timeout=TIMEOUT_S)
        if answer.status in accept:
            return None
        if _error_code(answer.body) in _BUSY:
            raise TransientError("action.remote.busy", "the receiver asks to be left alone for a while", at=self._name)
        check(answer, self._name)
        return _parse(answer.body)


def _parse(body: bytes) -> ET.Element:
    # No document type: nothing is expanded. The body is capped by the way out.
    if b"<!" in body[:2_000]:
        raise TransientError("action.remote.garbled", "the receiver's answer cannot be read")
    try:
        return ET.fromstring(body)  # noqa: S314 - capped, and without a document type
    except ET.ParseError:
        raise TransientError("action.remote.garbled", "the receiver's answer cannot be read") from None


def _error_code(body: bytes) -> str:
    found = re.search(rb"<Code>([\w.]{1,80})</Code>", body[:4_000])
    return found[1].decode() if found else ""


def _find(root: ET.Element, name: str) -> list[ET.Element]:
    """Every element of a local name; namespaces differ between versions."""
    return [each for each in root.iter() if each.tag.rpartition("}")[2] == name]


def _text(root: ET.Element, name: str) -> str:
    return next((each.text or "" for each in _find(root, name)), "")


def _key_status(aws: _Aws, user: str, key_id: str) -> str:
    keys = aws.ask("ListAccessKeys", UserName=user)
    for member in _find(keys, "member") if keys is not None else ():
        if _text(member, "AccessKeyId") == key_id:
            return _text(member, "Status")
    raise PermanentError("action.remote.missing", "the person has no such access key", at=user)


def _disable_key(call: ActionCall, reach: Reach) -> ActionResult:
    aws, user, key_id = _Aws(call, reach, "iam"), call.arguments["user"], call.arguments["access_key"]
    before = _key_status(aws, user, key_id)
    if before == "Active":
        aws.ask("UpdateAccessKey", UserName=user, AccessKeyId=key_id, Status="Inactive")
    return ActionResult({"access_key": key_id, "before": before, "changed": before == "Active"})


def _enable_key(call: ActionCall, reach: Reach) -> ActionResult:
    aws, user, key_id = _Aws(call, reach, "iam"), call.arguments["user"], call.arguments["access_key"]
    if call.arguments.get("changed", True):
        aws.ask("UpdateAccessKey", UserName=user, AccessKeyId=key_id, Status="Active")
    return ActionResult({"access_key": key_id})


def _look_key(call: ActionCall, reach: Reach) -> dict[str, Any]:
    aws, user, key_id = _Aws(call, reach, "iam"), call.arguments["user"], call.arguments["access_key"]
    status = _key_status(aws, user, key_id)
    used = aws.ask("GetAccessKeyLastUsed", AccessKeyId=key_id)
    last = {name: _text(used, name) for name in ("ServiceName", "LastUsedDate")} if used is not None else {}
    return {"access_key": key_id, "status": status, "last_used": last}


def _quarantined(aws: _Aws, user: str) -> bool:
    return aws.ask("GetUserPolicy", UserName=user, PolicyName=POLICY, accept=(_MISSING,)) is not None


def _quarantine(call: ActionCall, reach: Reach) -> ActionResult:
    aws, user = _Aws(call, reach, "iam"), call.arguments["user"]
    before = _quarantined(aws, user)
    if not before:
        document = msgspec.json.encode(DENY_ALL).decode()
        aws.ask("PutUserPolicy", UserName=user, PolicyName=POLICY, PolicyDocument=document)
    return ActionResult({"user": user, "policy": POLICY, "changed": not before})


def _lift(call: ActionCall, reach: Reach) -> ActionResult:
    aws, user = _Aws(call, reach, "iam"), call.arguments["user"]
    if call.arguments.get("changed", True):
        aws.ask("DeleteUserPolicy", UserName=user, PolicyName=POLICY, accept=(_MISSING,))
    return ActionResult({"user": user})


def _look_user(call: ActionCall, reach: Reach) -> dict[str, Any]:
    aws, user = _Aws(call, reach, "iam"), call.arguments["user"]
    keys, groups = aws.ask("ListAccessKeys", UserName=user), aws.ask("ListGroupsForUser", UserName=user)
    found = [_text(each, "AccessKeyId") for each in _find(keys, "member")] if keys is not None else []
    names = [_text(each, "GroupName") for each in _find(groups, "member")] if groups is not None else []
    return {"user": user, "access_keys": found, "groups": names, "quarantined": _quarantined(aws, user)}


def _marked(aws: _Aws, key: str) -> str:
    found = aws.ask("DescribeSnapshots", {"Filter.1.Name": f"tag:{TAG}", "Filter.1.Value.1": key, "Owner.1": "self"})
    return _text(found, "snapshotId") if found is not None else ""


def _snapshot(call: ActionCall, reach: Reach) -> ActionResult:
    aws, volume = _Aws(call, reach, "ec2"), call.arguments["volume"]
    held = _marked(aws, call.key)
    if not held:
        mark = {"Tag.1.Key": TAG, "Tag.1.Value": call.key, "ResourceType": "snapshot"}
        tags = {f"TagSpecification.1.{name}": value for name, value in mark.items()}
        made = aws.ask("CreateSnapshot", tags, VolumeId=volume, Description=f"evidence of {call.run_id}")
        held = _text(made, "snapshotId") if made is not None else ""
    if not held:
        raise TransientError("action.remote.garbled", "the receiver names no snapshot")
    reference = f"aws:{held}"
    # Of the reference: the bytes stay where they are.
    digest = hashlib.sha256(reference.encode()).hexdigest()
    return ActionResult({"snapshot": held, "volume": volume}, (Artefact(digest, reference, "volume_snapshot"),))


def _look_volume(call: ActionCall, reach: Reach) -> dict[str, Any]:
    volume = call.arguments["volume"]
    found = _Aws(call, reach, "ec2").ask("DescribeVolumes", {"VolumeId.1": volume})
    names = ("size", "status", "instanceId")
    return {"volume": volume} | ({name: _text(found, name) for name in names} if found is not None else {})


_KEY = {"connection": CONNECTION, "user": Argument(str), "access_key": Argument(str)}
_USER = {"connection": CONNECTION, "user": Argument(str)}

ACTIONS = (
    Action(
        Signature(
            "aws_disable_access_key",
            "makes an AWS access key inactive",
            _KEY,
            drastic=True,
            contains=True,
            touches={"key": "access_key"},
            scopes=("iam:ListAccessKeys", "iam:UpdateAccessKey", "iam:GetAccessKeyLastUsed"),
            undo="aws_enable_access_key",
        ),
        _disable_key,
        _look_key,
    ),
    Action(
        Signature(
            "aws_enable_access_key",
            "makes an AWS access key active again",
            {**_KEY, "changed": CHANGED},
            touches={"key": "access_key"},
            scopes=("iam:ListAccessKeys", "iam:UpdateAccessKey", "iam:GetAccessKeyLastUsed"),
        ),
        _enable_key,
        _look_key,
    ),
    Action(
        Signature(
            "aws_quarantine_user",
            "denies an AWS user everything, by a policy of its own",
            _USER,
            drastic=True,
            contains=True,
            touches={"user": "user"},
            scopes=("iam:GetUserPolicy", "iam:PutUserPolicy", "iam:ListAccessKeys", "iam:ListGroupsForUser"),
            undo="aws_lift_quarantine",
        ),
        _quarantine,
        _look_user,
    ),
    Action(
        Signature(
            "aws_lift_quarantine",
            "takes the quarantine policy of an AWS user away",
            {**_USER, "changed": CHANGED},
            touches={"user": "user"},
            scopes=("iam:DeleteUserPolicy", "iam:GetUserPolicy", "iam:ListAccessKeys", "iam:ListGroupsForUser"),
        ),
        _lift,
        _look_user,
    ),
    Action(
        Signature(
            "aws_snapshot_volume",
            "takes a snapshot of an EBS volume as evidence",
            {"connection": CONNECTION, "volume": Argument(str)},
            touches={"volume": "volume"},
            scopes=("ec2:CreateSnapshot", "ec2:CreateTags", "ec2:DescribeSnapshots", "ec2:DescribeVolumes"),
            repeats=Repeats.MARK,
        ),
        _snapshot,
        _look_volume,
    ),
)
