"""Postings on disk: what was put in is found and nothing else, from few blocks; damage is told; kills leave no halves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.errors import DataError
from vedette.sense.intel import postings as module
from vedette.sense.intel.postings import BLOCK, PostingsFile, postings, write_postings

KEY = st.one_of(st.integers(0, 40), st.integers(0, (1 << 64) - 1), st.sampled_from([(1 << 64) - 1, 1 << 63]))
PAIRS = st.lists(st.tuples(KEY, st.integers(0, 60)), max_size=200)
Pairs = list[tuple[int, int]]


def written(path: Path, *parts: Pairs) -> None:
    write_postings(path, [postings([key for key, _ in one], [row for _, row in one]) for one in parts])


def asked(keys: list[int]) -> np.ndarray:
    return np.unique(np.array(keys, np.uint64))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.tuples(PAIRS, PAIRS), st.lists(KEY, max_size=30), st.tuples(KEY, KEY), st.booleans())
def test_what_was_put_in_is_found(
    tmp_path: Path, parts: tuple[Pairs, Pairs], keys: list[int], span: tuple[int, int], in_turn: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MANY", 3 if in_turn else 1_000)
        written(tmp_path / "p", *parts)
        with PostingsFile(tmp_path / "p") as held:
            for pairs, part in zip(parts, held.parts, strict=True):
                wanted = sorted({(key, row) for key, row in pairs if key in set(keys)})
                assert part.find(asked(keys)).tolist() == [row for _, row in wanted]
                within = sorted({(key, row) for key, row in pairs if span[0] <= key <= span[1]})
                assert part.between(*span).tolist() == [row for _, row in within]


def many(path: Path, count: int = 20_000) -> list[int]:
    keys = np.random.default_rng(7).integers(0, 1 << 63, count, np.uint64).tolist()
    written(path, [(key, row) for row, key in enumerate(keys)], [(row, row) for row in range(count)])
    return keys


def test_one_key_reads_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = many(tmp_path / "p")
    read: list[int] = []
    plain = PostingsFile.read
    monkeypatch.setattr(
        PostingsFile, "read", lambda self, first, count: (read.append(count), plain(self, first, count))[1]
    )
    with PostingsFile(tmp_path / "p") as held:
        assert held.parts[0].find(asked([keys[11]])).tolist() == [11]
        assert sum(read) == 3
        assert held.parts[1].between(700, 702).tolist() == [700, 701, 702]
        assert sum(read) == 7
        assert held.parts[0].find(asked([5])).tolist() == []
    assert (tmp_path / "p").stat().st_size > 100 * BLOCK


def test_every_changed_byte_is_told(tmp_path: Path) -> None:
    keys = many(tmp_path / "p", 2_000)
    whole = (tmp_path / "p").read_bytes()
    draw = np.random.default_rng(8)
    wrong = list[str]()
    places = [*range(24), *draw.integers(0, len(whole), 300).tolist()]
    for place in places:
        (tmp_path / "p").write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            with PostingsFile(tmp_path / "p") as held:
                answers = (
                    [part.find(asked(keys)).tolist() for part in held.parts],
                    held.parts[1].between(0, 9**9).tolist(),
                )
        except DataError as error:
            wrong.append(error.code)
        else:
            # What fills the room between the head and the first block says nothing.
            assert len(answers[0][0]) == 2_000
            assert answers[1] == list(range(2_000))
    assert set(wrong) == {"intel.postings.damaged"}
    assert len(wrong) > 200
    for size in (0, 7, 30, BLOCK, len(whole) - BLOCK, len(whole) - 1):
        (tmp_path / "p").write_bytes(whole[:size])
        with pytest.raises(DataError, match="damaged"), PostingsFile(tmp_path / "p"):
            pass


WRITER = """
import os, signal, sys
from pathlib import Path
from vedette.sense.intel import postings
die = lambda *_a, **_k: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "check": postings.zlib.crc32 = die
if sys.argv[2] == "replace": Path.replace = die
keys = list(range(3_000))
postings.write_postings(Path(sys.argv[1]), [postings.postings(keys, keys)])
"""


@pytest.mark.parametrize("moment", ["check", "replace"])
def test_a_killed_writer_leaves_what_was_there(tmp_path: Path, moment: str) -> None:
    written(tmp_path / "p", [(1, 2)])
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "p"), moment], env=environ, check=False)
    assert done.returncode == -signal.SIGKILL
    with PostingsFile(tmp_path / "p") as held:
        assert held.parts[0].find(asked([1])).tolist() == [2]
