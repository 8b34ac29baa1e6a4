"""The door holds connections, the worker's end answers: each alone, against the other played by hand."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import stat
import struct
import tempfile
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from server_process import Server

from vedette.judge.decisions.service import Pending
from vedette.serve.door import door as door_module
from vedette.serve.door import relay
from vedette.serve.door.door import run_door
from vedette.serve.door.doorway import Doorway
from vedette.serve.door.plain import Call
from vedette.serve.door.wire import CLIENT, FRAMES, LEAVING, Ask, Reader, Told, frame
from vedette.serve.errors import Reply
from vedette.serve.hot import Hot

PATIENCE_S = 20.0


def request(body=b"{}", path=b"/v1/decisions", more=b""):
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (path, more, len(body), body)


def answer(body):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=9)), max_size=3), max_size=4), st.data())
def test_frames_are_read_wherever_they_are_cut(frames, data):
    told = [[Told(*each) for each in part] for part in frames]
    stream = b"".join(map(frame, told))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    reader = Reader(Told)
    found = [
        each
        for one, other in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for each in reader.take(stream[one:other])
    ]
    assert found == [each for part in told for each in part]


def test_a_request_shows_nothing_of_what_its_sender_trusts_us_with():
    call = Call("Bearer vk_live_secret", "application/json", b"4111111111111111", "key")
    assert repr(Ask(1, "/v1/decisions", False, 0.0, call)).count("secret") == 0
    assert "4111" not in repr(call)


class Worker:
    """The worker's end, by hand."""

    def __init__(self, path):
        self.path, self.plugs = path, []
        self.open()

    def open(self):
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen(16)
        self.socket.setblocking(False)

    async def accept(self, purpose):
        """The next door that comes for this: its plug, and the client it brings."""
        loop = asyncio.get_running_loop()
        plug, _ = await asyncio.wait_for(loop.sock_accept(self.socket), PATIENCE_S)
        found, files, *_ = socket.recv_fds(plug, 1, 1)
        assert found == purpose
        plug.setblocking(False)
        self.plugs.append(Plug(plug))
        return self.plugs[-1], socket.socket(fileno=files[0]) if files else None


class Plug:
    """A door that came."""

    def __init__(self, plug):
        self.socket, self.reader = plug, Reader(Ask)

    async def asks(self, count=1):
        found = []
        while len(found) < count:
            found += self.reader.take(await self.read())
        return found

    async def read(self):
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 65_536), PATIENCE_S)

    async def tell(self, *told):
        await asyncio.get_running_loop().sock_sendall(self.socket, frame([Told(*each) for each in told]))


class Visitor:
    """A client."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setblocking(False)

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self):
        """Some bytes; none when the connection is gone."""
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 65_536), PATIENCE_S)
        except ConnectionError:
            return b""


@asynccontextmanager
async def opened():
    """A door, what makes its visitors, the worker's end, and what closes the door."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        path = Path(folder) / "worker"
        worker, port = Worker(path), listener.getsockname()[1]
        beats, visitors = [], []

        def visit():
            visitors.append(Visitor(port))
            return visitors[-1]

        running = asyncio.create_task(run_door(listener, path, lambda: beats.append(1) or True))
        yield visit, worker
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE_S)
        assert beats
        for each in (*visitors, *worker.plugs, worker):
            each.socket.close()


def door_test(work):
    """Runs a test in an event loop; signals go back to what they meant."""

    def run(monkeypatch):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        try:
            asyncio.run(work(*([monkeypatch] if inspect.signature(work).parameters else [])))
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])

    run.__name__ = work.__name__
    return run


@door_test
async def test_requests_go_to_the_worker_and_answers_come_back():
    async with opened() as (visit, worker):
        visitors = [visit() for _ in range(3)]
        for place, visitor in enumerate(visitors):
            await visitor.send(request(b"%d" % place, more=b"Authorization: Bearer s\r\n"))
        plug, _ = await worker.accept(FRAMES)
        asks = await plug.asks(3)
        assert sorted(ask.call.body for ask in asks) == [b"0", b"1", b"2"]
        assert {(ask.path, ask.call.authorization, ask.call.origin) for ask in asks} == {
            ("/v1/decisions", "Bearer s", "127.0.0.1")
        }
        assert all(0 <= time.monotonic() - ask.came < PATIENCE_S for ask in asks)
        await plug.tell(*[(ask.number, answer(b"a" + ask.call.body)) for ask in reversed(asks)])
        for place, visitor in enumerate(visitors):
            assert await visitor.read() == answer(b"a%d" % place)
        # One behind the other: in order, one at a time.
        await visitors[0].send(request(b"x") + request(b"y", more=b"Connection: close\r\n"))
        _, handed = await worker.accept(CLIENT)  # two in one piece are not plain
        with handed:
            assert handed.getpeername() == visitors[0].socket.getsockname()
        await visitors[1].send(request(b"x"))
        (ask,) = await plug.asks()
        await visitors[1].send(request(b"y", more=b"Connection: close\r\n"))
        await plug.tell((ask.number, answer(b"x")))
        (ask,) = await plug.asks()
        assert (ask.call.body, ask.close) == (b"y", True)
        await plug.tell((ask.number, answer(b"y")))
        assert await visitors[1].read() + await visitors[1].read() == answer(b"x") + answer(b"y")
        assert await visitors[1].read() == b""


@door_test
async def test_what_is_not_plain_or_not_known_is_handed_over_with_all_that_was_read():
    async with opened() as (visit, worker):
        odd, unknown = visit(), visit()
        await odd.send(b"GET / HTTP/1.1\r\n\r\n")
        plug, client = await worker.accept(CLIENT)
        assert await plug.read() == b"GET / HTTP/1.1\r\n\r\n"
        assert await plug.read() == b""
        client.sendall(b"from the worker")
        assert await odd.read() == b"from the worker"
        await odd.send(b"more")
        assert client.recv(10) == b"more"  # the door reads nothing of it any more
        client.close()
        await unknown.send(request(path=b"/v1/labels"))
        plug, _ = await worker.accept(FRAMES)
        (ask,) = await plug.asks()
        await plug.tell((ask.number, b""))
        plug, client = await worker.accept(CLIENT)
        assert await plug.read() == request(path=b"/v1/labels")
        client.close()
        assert await unknown.read() == b""


@door_test
async def test_with_the_worker_go_those_who_wait_for_it_and_nobody_else():
    async with opened() as (visit, worker):
        waits, idle, gone = visit(), visit(), visit()
        await waits.send(request(b"1"))
        plug, _ = await worker.accept(FRAMES)
        await plug.asks()
        await gone.send(request(b"2"))
        (ask,) = await plug.asks()
        gone.socket.close()
        plug.socket.close()
        assert await waits.read() == b""
        await idle.send(request(b"3"))
        plug, _ = await worker.accept(FRAMES)
        (ask,) = await plug.asks()
        await plug.tell((99, answer(b"nobody's")), (ask.number, answer(b"3")))
        assert await idle.read() == answer(b"3")


@door_test
async def test_a_worker_that_leaves_answers_what_it_has_and_gets_nothing_more():
    async with opened() as (visit, worker):
        early, late = visit(), visit()
        await early.send(request(b"1"))
        old, _ = await worker.accept(FRAMES)
        (first,) = await old.asks()
        await old.tell((LEAVING, b""))
        assert await old.read() == b""
        await late.send(request(b"2"))
        new, _ = await worker.accept(FRAMES)
        (second,) = await new.asks()
        await new.tell((second.number, answer(b"2")))
        await old.tell((first.number, answer(b"1")))
        assert (await early.read(), await late.read()) == (answer(b"1"), answer(b"2"))


@door_test
async def test_a_request_in_pieces_is_waited_for_and_then_is_the_workers(patch):
    async with opened() as (visit, worker):
        visitor = visit()
        whole = request(b'{"a": 1}')
        for place in range(0, len(whole), 40):
            await visitor.send(whole[place : place + 40])
            await asyncio.sleep(0.02)
        plug, _ = await worker.accept(FRAMES)
        (ask,) = await plug.asks()
        await plug.tell((ask.number, answer(b"1")))
        assert await visitor.read() == answer(b"1")
        patch.setattr(door_module, "LOOK_S", 0.05)
        await visitor.send(whole[:40])
        plug, client = await worker.accept(CLIENT)
        assert await plug.read() == whole[:40]
        client.close()


@door_test
async def test_who_is_silent_for_long_is_let_go_and_who_waits_is_not(patch):
    async with opened() as (visit, worker):
        silent, waits = visit(), visit()
        await waits.send(request(b"1"))
        plug, _ = await worker.accept(FRAMES)
        (ask,) = await plug.asks()
        patch.setattr(door_module, "KEEP_ALIVE_S", 0.1)
        patch.setattr(door_module, "LOOK_S", 0.1)
        assert await silent.read() == b""
        await plug.tell((ask.number, answer(b"1")))
        assert await waits.read() == answer(b"1")


@door_test
async def test_a_door_that_closes_lets_answers_out_first():
    async with opened() as (visit, worker):
        idle, waits = visit(), visit()
        await waits.send(request(b"1"))
        plug, _ = await worker.accept(FRAMES)
        (ask,) = await plug.asks()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await idle.read() == b""
        await plug.tell((ask.number, answer(b"1")))
        assert await waits.read() == answer(b"1")
        assert await waits.read() == b""


@door_test
async def test_nobody_at_the_other_end():
    async with opened() as (visit, worker):
        worker.socket.close()
        for data in (request(), b"GET / HTTP/1.1\r\n\r\n"):
            visitor = visit()
            await visitor.send(data)
            assert await visitor.read() == b""
        worker.open()
        visitor = visit()
        await visitor.send(request())
        plug, _ = await worker.accept(FRAMES)
        (ask,) = await plug.asks()
        await plug.tell((ask.number, answer(b"1")))
        assert await visitor.read() == answer(b"1")


@door_test
async def test_who_reads_slowly_has_its_answer_before_it_is_handed_over():
    async with opened() as (visit, worker):
        slow, large = visit(), answer(b"x" * 16_000_000)
        await slow.send(request())
        plug, _ = await worker.accept(FRAMES)
        (ask,) = await plug.asks()
        odd = b"GET / HTTP/1.1\r\n"
        await slow.send(odd)
        await asyncio.sleep(0.1)
        await plug.tell((ask.number, large))
        await asyncio.sleep(0.1)
        await slow.send(b"Host: x\r\n\r\n")
        got = b""
        while len(got) < len(large):
            got += await slow.read()
        assert got == large
        plug, client = await worker.accept(CLIENT)
        found = await plug.read()
        client.settimeout(PATIENCE_S)
        while len(found) < len(odd) + 11:
            found += client.recv(100)
        assert found == odd + b"Host: x\r\n\r\n"
        client.close()


def test_nobody_else_may_come_to_the_worker(tmp_path):
    home = tmp_path / "home"
    server = Server(home, "--supervised")
    server.start()
    try:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        commands = [Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0") for each in children]
        (place,) = [Path(words[-2].decode()) for words in commands if b"vedette.serve.door" in words]
        assert (place.is_socket(), stat.S_IMODE(place.parent.stat().st_mode)) == (True, 0o700)
    finally:
        assert server.stop() == 0
    assert not place.parent.exists()


# The worker's end


class Service:
    """Decides as it is told to."""

    budget = 0.05

    def __init__(self):
        self.go_on = threading.Event()
        self.go_on.set()
        self.begun = threading.Event()
        self.groups, self.given_up = [], []

    def work(self, group):
        self.groups.append([pending.event for pending in group])
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        for pending in group:
            if pending.claim(b"decided"):
                pending.tell()

    def give_up(self, pending):
        if pending.answer is None and pending.claim(b"by policy"):
            self.given_up.append(pending.event)
            pending.tell()


class Deciding(Hot):
    """A route whose requests are decided on by `Service`; odd ones are awaited."""

    path = "/v1/decisions"

    def __init__(self, service):
        self.service = service

    def begin(self, call, told, hold=None):
        if call.body.startswith(b"odd"):
            return False
        hold(self.service, Pending(call.body, lambda said: told(Reply(200, said + b" " + call.body))))
        return True

    async def make(self, call):
        await asyncio.sleep(0.01)
        return Reply(200, b"awaited " + call.body)

    def count(self, reply):
        pass


@asynccontextmanager
async def answering(*routes):
    """A plug of a door into the worker's end, and the connections that a server would end."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/worker")
        listener.listen(4)
        connections = set()
        doorway = Doorway(listener, routes, Echo, connections)
        plug = socket.socket(socket.AF_UNIX)
        plug.connect(f"{folder}/worker")
        plug.setblocking(False)
        yield AskingPlug(plug), connections, f"{folder}/worker"
        plug.close()
        doorway.close()
        for _ in range(2_000):
            if not connections:
                break
            await asyncio.sleep(0.01)
        assert not connections


class Echo(asyncio.Protocol):
    """Of a client that was handed over."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"echo " + data)


class AskingPlug:
    """The door's end, by hand."""

    def __init__(self, plug):
        self.socket, self.reader, self.told = plug, Reader(Told), {}

    async def ask(self, *bodies, path="/v1/decisions", age=0.0):
        asks = [
            Ask(int(each.split()[-1]), path, False, time.monotonic() - age, Call(None, None, each)) for each in bodies
        ]
        await asyncio.get_running_loop().sock_sendall(self.socket, frame(asks))

    async def answers(self, count):
        """Number -> body, when there are so many in all."""
        while len(self.told) < count:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 65_536), PATIENCE_S)
            assert data
            for told in self.reader.take(data):
                assert told.number not in self.told  # once
                self.told[told.number] = told.answer.partition(b"\r\n\r\n")[2]
        return self.told


def test_what_comes_together_is_decided_together():
    async def work():
        service = Service()
        async with answering(Deciding(service)) as (plug, _, _path):
            await send_off(plug)
            await plug.ask(b"1", b"2", b"odd 3")
            await plug.ask(b"4", path="/v1/nobody")
            told = await plug.answers(4)
            assert told == {1: b"decided 1", 2: b"decided 2", 3: b"awaited odd 3", 4: b""}
            assert service.groups == [[b"1", b"2"]]
            await plug.ask(*[b"%d" % number for number in range(10, 50)])
            await plug.answers(44)
            assert [len(group) for group in service.groups[1:]] == [16, 16, 8]

    asyncio.run(work())


async def send_off(plug):
    await asyncio.get_running_loop().sock_sendall(plug.socket, FRAMES)


@pytest.mark.parametrize(("linger", "quiet"), [(PATIENCE_S, 0.0), (0.0, PATIENCE_S)])
def test_who_comes_to_a_quiet_service_or_has_waited_its_time_waits_for_nobody(monkeypatch, linger, quiet):
    async def work():
        service = Service()
        async with answering(Deciding(service)) as (plug, _, _path):
            await send_off(plug)
            for number in range(3):
                await plug.ask(b"%d" % number)
                await plug.answers(number + 1)
            assert service.groups == [[b"0"], [b"1"], [b"2"]]

    monkeypatch.setattr(relay, "LINGER_S", linger)
    monkeypatch.setattr(relay, "QUIET_S", quiet)
    asyncio.run(work())


def test_on_a_busy_service_a_request_waits_until_there_are_enough_for_a_group(monkeypatch):
    async def work():
        service = Service()
        async with answering(Deciding(service)) as (plug, _, _path):
            await send_off(plug)
            await plug.ask(b"1")  # nothing was decided on before: it waits for nobody
            await plug.answers(1)
            await plug.ask(b"2", b"odd 3")
            assert 3 in await plug.answers(2)
            await plug.ask(b"4")
            await plug.ask(b"5")
            assert service.groups == [[b"1"]]
            await plug.ask(b"6")
            await plug.answers(6)
            assert service.groups == [[b"1"], [b"2", b"4", b"5", b"6"]]

    monkeypatch.setattr(relay, "LINGER_S", PATIENCE_S)
    monkeypatch.setattr(relay, "QUIET_S", PATIENCE_S)
    asyncio.run(work())


def test_while_a_group_stalls_others_read_on_and_answer_by_policy_who_is_due():
    async def work():
        service = Service()
        async with answering(Deciding(service)) as (plug, _, _path):
            await send_off(plug)
            service.go_on.clear()
            await plug.ask(b"1")
            assert await asyncio.to_thread(service.begun.wait, PATIENCE_S)
            await plug.ask(b"2", b"odd 3")
            await plug.ask(b"4", age=-PATIENCE_S)  # not due for long
            told = await plug.answers(3)
            assert told == {1: b"by policy 1", 2: b"by policy 2", 3: b"awaited odd 3"}
            service.go_on.set()
            told = await plug.answers(4)
            assert told[4] == b"decided 4"
            # What was answered by policy is decided all the same, so that the log has it; nobody is told twice.
            assert [each for group in service.groups for each in group] == [b"1", b"2", b"4"]
            assert service.given_up == [b"1", b"2"]

    asyncio.run(work())


def test_who_leaves_hears_its_answers_and_ends():
    async def work():
        service = Service()
        async with answering(Deciding(service)) as (plug, connections, _path):
            await send_off(plug)
            await plug.ask(b"1")
            await plug.answers(1)
            (mine,) = connections
            await plug.ask(b"odd 2")
            mine.shutdown()
            plug.socket.shutdown(socket.SHUT_WR)
            told = await plug.answers(3)
            assert (told[2], told[LEAVING]) == (b"awaited odd 2", b"")
            assert await asyncio.get_running_loop().sock_recv(plug.socket, 10) == b""

    asyncio.run(work())


def test_a_client_that_is_handed_over_goes_on_here():
    async def work():
        async with answering() as (plug, _, path):
            ours, theirs = socket.socketpair()
            with ours, theirs, socket.socket(socket.AF_UNIX) as bringing:
                bringing.connect(path)
                socket.send_fds(bringing, [CLIENT], [theirs.fileno()])
                bringing.sendall(b"what was ")
                bringing.sendall(b"read")
                bringing.close()
                theirs.close()
                ours.setblocking(False)
                loop = asyncio.get_running_loop()
                assert await asyncio.wait_for(loop.sock_recv(ours, 100), PATIENCE_S) == b"echo what was read"
                await loop.sock_sendall(ours, b"more")
                assert await asyncio.wait_for(loop.sock_recv(ours, 100), PATIENCE_S) == b"echo more"
            plug.socket.send(b"?")  # no purpose that is known
            assert await asyncio.wait_for(loop.sock_recv(plug.socket, 1), PATIENCE_S) == b""

    asyncio.run(work())


def test_what_a_client_sends_while_it_is_handed_over_comes_behind_what_was_read():
    async def work():
        loop = asyncio.get_running_loop()
        async with answering() as (plug, _, path):
            for _ in range(100):
                ours, theirs = socket.socketpair()
                with ours, theirs, socket.socket(socket.AF_UNIX) as bringing:
                    ours.setblocking(False)
                    ours.send(b"second")
                    ours.shutdown(socket.SHUT_WR)
                    bringing.connect(path)
                    socket.send_fds(bringing, [CLIENT], [theirs.fileno()])
                    bringing.sendall(b"first ")
                    bringing.close()
                    theirs.close()
                    found = b""
                    while part := await asyncio.wait_for(loop.sock_recv(ours, 100), PATIENCE_S):
                        found += part
                    assert found.replace(b"echo ", b"") == b"first second"
            plug.socket.send(b"?")
            assert await asyncio.wait_for(loop.sock_recv(plug.socket, 1), PATIENCE_S) == b""

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # it reads before it says that it has a client
        runner.run(work())


@pytest.mark.parametrize("damage", [struct.pack(">I", 3) + b"abc", frame([Told(1, b"")])])
def test_a_door_that_talks_nonsense_is_not_listened_to(damage):
    async def work():
        async with answering() as (plug, _, _path):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(plug.socket, FRAMES + damage)
            assert await asyncio.wait_for(loop.sock_recv(plug.socket, 1), PATIENCE_S) == b""

    asyncio.run(work())
