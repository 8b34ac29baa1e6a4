"""Spark as tests ask it: rules and events in, the rules that fire on each event out; it runs in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from vedette.core.errors import UnsupportedError
from vedette.expr.sql.spark import SparkPrinter, spark_text

WORKER = Path(__file__).with_name("spark_worker.py")

needs_spark = pytest.mark.skipif(
    not (importlib.util.find_spec("pyspark") and shutil.which("java")),
    reason="no Spark: `make spark` installs it, it needs Java 17",
)


def runs(node):
    try:
        SparkPrinter().condition(node)
    except UnsupportedError:
        return False
    return True


def fired(groups, some, settings=None, parts=None):
    """Group by group of rules: event number -> places of rules that fire, None where Spark leaves the row open.

    `parts` are the first event of each group and the one behind its last; without them each is asked about all.
    """
    texts = [
        spark_text([(str(place), rule) for place, rule in enumerate(rules)], table="events", columns=["id"])
        for rules in groups
    ]
    data = [msgspec.json.encode(one).decode() for one in some]
    asked = json.dumps({"data": data, "texts": texts, "settings": settings or {}, "parts": parts})
    done = subprocess.run([sys.executable, WORKER], input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [
        {int(row): names and list(map(int, names)) for row, names in answer.items()}
        for answer in json.loads(done.stdout.splitlines()[-1])
    ]
