"""A process that appends to a log until it is killed, telling each acknowledged record on stdout.

Run as `log_writer.py FOLDER NAME PLANT`; `PLANT` names a bug to plant, so that the kill test is seen to find it.
"""

import itertools
import sys
import time
from pathlib import Path

from vedette.core import _log_topic
from vedette.core.clock import SystemClock
from vedette.core.log import Durability, SqliteLog


def plant(bug: str) -> None:
    """Makes the log wrong in a known way."""
    write, end = _log_topic.Topic._write, _log_topic.Topic._end

    def early(self, group):
        """Acknowledges, then commits."""
        for append in group:
            append.first = end(self._connection, append.shard)
            append.done.set_result(append.first)
        time.sleep(0.01)
        write(self, group)

    def torn(self, group):
        """Commits the values of one append one by one."""
        for append in group:
            run = append.run._replace(records=1)
            parts = [_log_topic.Append(append.shard, run, (value,), synced=False) for value in append.values]
            for part in parts:
                write(self, [part])
                time.sleep(0.002)
            append.first = parts[0].first

    if bug == "early":
        _log_topic.Topic._write = early
        _log_topic.Topic._acknowledge = lambda _self, _group: None
    elif bug == "torn":
        _log_topic.Topic._write = torn


def main() -> None:
    folder, name, bug = sys.argv[1:]
    plant(bug)
    log = SqliteLog(Path(folder), SystemClock())
    for number in itertools.count():
        durability = Durability.SYNCED if number % 5 == 0 else Durability.WRITTEN
        values = [f"{name}-{number}-{part}".encode() for part in range(1 + number % 3)]
        first = log.append("event", name, values, durability=durability)
        for part, value in enumerate(values):
            sys.stdout.write(f"{first + part} {value.decode()}\n")
        sys.stdout.flush()


main()
