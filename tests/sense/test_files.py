"""Reading files: equal to the obvious way for any content and any block size; damage costs only what is damaged."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.errors import DataError
from vedette.sense.files import HEAD_BYTES, BadRecord, Limits, list_files, read_lines, stream_identity

Read = list[tuple[int, int, bytes]]


DEFAULT = Limits()


def read(path: Path, limits: Limits = DEFAULT) -> tuple[Read, list[BadRecord]]:
    good: Read = []
    bad: list[BadRecord] = []
    for chunk in read_lines(path, limits=limits):
        good += zip(chunk.numbers, chunk.offsets, chunk.lines, strict=True)
        bad += chunk.bad
        assert chunk.count == len(chunk.lines) + len(chunk.bad)
        assert chunk.first_line == (chunk.numbers[0] if chunk.lines else 0)
    return good, bad


def obvious(content: bytes, limit: int) -> tuple[Read, list[tuple[int, int, bytes]]]:
    good, bad, offset = [], [], 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if len(line) > limit:
            bad.append((number, offset, line[:HEAD_BYTES]))
        elif line not in (b"", b"\r"):
            good.append((number, offset, line))
        offset += len(line) + 1
    return good, bad


contents = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"{}", b"a", b"bcd", b"x" * 11, b"y" * 21, b" "]), max_size=30
).map(b"".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=contents, block=st.integers(1, 40), line=st.integers(1, 30), packed=st.booleans())
def test_any_file_reads_as_the_obvious_way(tmp_path: Path, content: bytes, block: int, line: int, packed: bool) -> None:
    path = tmp_path / ("f.log.gz" if packed else "f.log")
    path.write_bytes(gzip.compress(content) if packed else content)
    good, bad = read(path, Limits(line_bytes=line, chunk_bytes=block))
    want_good, want_bad = obvious(content, line)
    assert good == want_good
    assert [(each.line, each.offset, each.raw) for each in bad] == want_bad
    assert {each.code for each in bad} <= {"files.line.too_long"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(parts=st.lists(contents, min_size=1, max_size=4), block=st.integers(1, 40), padding=st.integers(0, 5))
def test_gzip_members_join(tmp_path: Path, parts: list[bytes], block: int, padding: int) -> None:
    path = tmp_path / "f.gz"
    path.write_bytes(b"".join(map(gzip.compress, parts)) + b"\0" * padding)
    good, bad = read(path, Limits(chunk_bytes=block))
    assert not bad
    assert good == obvious(b"".join(parts), 1 << 20)[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_gzip_file_cut_anywhere_keeps_its_whole_lines(tmp_path: Path, data: st.DataObject) -> None:
    lines = [b'{"n": %d, "r": "%s"}' % (n, hashlib.sha256(b"%d" % n).hexdigest()[:16].encode()) for n in range(200)]
    whole = gzip.compress(b"\n".join(lines) + b"\n", mtime=0)
    cut = data.draw(st.integers(3, len(whole) - 1))
    path = tmp_path / "f.gz"
    path.write_bytes(whole[:cut])
    good, bad = read(path, Limits(chunk_bytes=data.draw(st.sampled_from([64, 1_000, 1 << 18]))))
    assert [line for _, _, line in good] == lines[: len(good)]
    assert [each.code for each in bad] == ["files.gzip.truncated"]
    assert bad[0].line == len(good) + 1
    assert bad[0].offset == sum(len(line) + 1 for line in lines[: len(good)])
    held = zlib.decompressobj(31).decompress(whole[:cut])
    assert len(good) == held.count(b"\n")
    assert bad[0].raw == held[bad[0].offset :]


def test_a_damaged_gzip_file_is_one_bad_record(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(20_000))))
    whole[-6] ^= 0xFF
    (tmp_path / "f.gz").write_bytes(whole)
    good, bad = read(tmp_path / "f.gz", Limits(chunk_bytes=1_000))
    assert [each.code for each in bad] == ["files.gzip.corrupt"]
    assert len(good) > 19_000


def test_what_follows_the_last_member_is_reported(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(gzip.compress(b"{}\n") + b"not a member")
    good, bad = read(tmp_path / "f.gz")
    assert [line for _, _, line in good] == [b"{}"]
    assert [each.code for each in bad] == ["files.gzip.corrupt"]


def test_a_bomb_is_stopped_and_an_honest_log_is_not(tmp_path: Path) -> None:
    limits = Limits(ratio_from_bytes=1 << 20, line_bytes=1 << 16)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"0" * (20 << 20)))
    good, bad = read(tmp_path / "bomb.gz", limits)
    assert not good
    assert bad[-1].code == "files.gzip.ratio"
    line = b'{"time": "2024-01-01T00:00:%02d.%06d", "text": "' + b"connection accepted from host " * 3 + b'"}\n'
    honest = b"".join(line % (n % 60, n * 7919 % 1_000_000) for n in range(40_000))
    packed = gzip.compress(honest, 9)
    (tmp_path / "honest.gz").write_bytes(packed)
    good, bad = read(tmp_path / "honest.gz", limits)
    assert (len(good), bad) == (40_000, [])
    repeated = gzip.compress(line % (1, 1) * 100_000, 9)
    assert len(line) * 100_000 / len(repeated) > 100
    (tmp_path / "repeated.gz").write_bytes(repeated)
    assert len(read(tmp_path / "repeated.gz", limits)[0]) == 100_000


def test_a_line_of_50_megabytes_is_skipped_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.ndjson"
    with path.open("wb") as file:
        file.write(b'{"a": 1}\n')
        for _ in range(50):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"a": 2}\n')
    tracemalloc.start()
    good, bad = read(path, Limits(line_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line for _, _, line in good] == [b'{"a": 1}', b'{"a": 2}']
    assert [(each.code, each.line, each.offset, len(each.raw)) for each in bad] == [
        ("files.line.too_long", 2, 9, HEAD_BYTES)
    ]
    assert good[1][:2] == (3, 9 + (50 << 20) + 1)
    assert peak < 6 << 20


def test_a_folder_is_read_in_order_and_one_bad_file_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.log").write_bytes(b"b")
    (tmp_path / "a.json").write_bytes(b"")
    (tmp_path / "sub" / "c.ndjson.gz").write_bytes(gzip.compress(b"c"))
    (tmp_path / "sub" / "broken.log.gz").write_bytes(b"plain")
    (tmp_path / "sub" / "picture.png").write_bytes(b"no")
    assert [path.name for path in list_files(tmp_path)] == ["a.json", "b.log", "broken.log.gz", "c.ndjson.gz"]
    chunks = list(read_lines(tmp_path))
    assert [line for chunk in chunks for line in chunk.lines] == [b"b", b"c"]
    assert [each.code for chunk in chunks for each in chunk.bad] == ["files.gzip.not_gzip"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("gone.log", None, "files.path.missing"),
        ("f.gz", b"plain", "files.gzip.not_gzip"),
        ("", None, "files.folder.empty"),
    ],
)
def test_what_cannot_be_opened_is_an_error_with_its_path(
    tmp_path: Path, name: str, content: bytes | None, code: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_gzip_is_told_by_content_and_a_byte_order_mark_goes(tmp_path: Path) -> None:
    (tmp_path / "f.log").write_bytes(gzip.compress(b"\xef\xbb\xbf{}\n{}"))
    assert read(tmp_path / "f.log")[0] == [(1, 0, b"{}"), (2, 6, b"{}")]
    (tmp_path / "empty.gz").write_bytes(b"")
    assert read(tmp_path / "empty.gz") == ([], [])


def test_stream_identity_follows_growth_and_sees_rotation(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    grown = stream_identity(path, b'{"a":1}')
    assert grown == stream_identity(path, b'{"a":1}\r')
    assert grown != stream_identity(path, b'{"a":2}')
    assert grown != stream_identity(tmp_path / "other.log", b'{"a":1}')
    assert stream_identity(path, b"x", "n") == stream_identity(tmp_path / "moved", b"x", "n")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_is_a_file(tmp_path: Path, pack) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[pack(b"one\ntwo\n")])
    writer.start()
    assert [line for chunk in read_lines(pipe) for line in chunk.lines] == [b"one", b"two"]
    writer.join()
