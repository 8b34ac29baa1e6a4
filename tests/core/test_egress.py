"""Outgoing HTTP against servers that mean harm. All on loopback, with ports the system gives."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core import egress
from vedette.core.egress import Egress, is_public
from vedette.core.errors import DataError, DeniedError, PermanentError, TransientError, VedetteError


@contextmanager
def server(talk: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Runs `talk` on each connection; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
                if context:
                    connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                with connection:
                    talk(connection)
            except (OSError, ssl.SSLError):
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        listener.close()


def answer(raw: bytes, seen: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.settimeout(120)
        got = b""
        while b"\r\n\r\n" not in got:
            piece = connection.recv(65_536)
            if not piece:
                return
            got += piece
        if seen is not None:
            seen.append(got)
        connection.sendall(raw)

    return talk


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\nX-A: 1\r\nX-A: 2\r\n\r\nhi"


def code(error: pytest.ExceptionInfo[VedetteError]) -> str:
    return error.value.code


def test_a_named_host_is_reached():
    seen: list[bytes] = []
    with server(answer(OK, seen)) as port:
        out = Egress(["localhost"])
        for _ in range(2):
            got = out.request(
                "POST", f"http://localhost:{port}/p?q=1", headers={"X-Sig": "s", "Host": "evil"}, content=b"{}"
            )
        out.close()
    assert (got.status, got.body, got.headers["x-a"]) == (200, b"hi", "1, 2")
    assert seen[1].startswith(b"POST /p?q=1 HTTP/1.1\r\n")
    assert f"host: localhost:{port}".encode() in seen[1].lower()
    assert b"evil" not in seen[1]
    assert b"cookie" not in seen[1].lower(), "nothing is remembered between requests"


PRIVATE = (
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1 240.0.0.1 "
    "::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::10.0.0.1 2002:7f00:1::1"
).split()
PUBLIC = "1.1.1.1 8.8.8.8 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::8.8.8.8".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address):
    out = Egress(resolver=lambda _host, _port: [address])
    with pytest.raises(DeniedError) as refused:
        out.request("GET", "https://looks.fine.example/")
    assert code(refused) == "egress.address.refused"
    out.close()


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address):
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_hidden_in_ipv6_is_judged_as_itself(address):
    for hidden in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(ipaddress.ip_address(hidden)) == is_public(address)


def test_one_private_address_among_public_ones_is_enough():
    out = Egress(resolver=lambda _host, _port: ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(DeniedError):
        out.request("GET", "https://mixed.example/")
    out.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "localhost", "LOCALHOST."])
def test_ways_to_write_loopback(host):
    out = Egress()
    with pytest.raises(VedetteError) as refused:
        out.request("GET", f"https://{host}/")
    assert code(refused) in {"egress.address.refused", "egress.url.invalid", "egress.name.unresolved"}
    out.close()


def test_a_name_that_changes_its_answer_changes_nothing():
    answers = iter([["127.0.0.1"], ["10.9.9.9"]])
    asked = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    seen: list[bytes] = []
    with server(answer(OK, seen)) as port:
        out = Egress(["127.0.0.0/8", "rebind.example"], resolver=rebinding)
        assert out.request("GET", f"http://rebind.example:{port}/").status == 200
        out.close()
    assert asked == ["rebind.example"], "the name is asked for once, and the connection goes to that answer"


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("http://public.example/", "egress.scheme.refused"),
        ("ftp://public.example/", "egress.scheme.refused"),
        ("file:///etc/passwd", "egress.url.invalid"),
        ("gopher://x/", "egress.scheme.refused"),
        ("https://user:secret@public.example/", "egress.url.invalid"),
        ("https://", "egress.url.invalid"),
        ("not a url", "egress.url.invalid"),
        ("https://[::1", "egress.url.invalid"),
        ("https://x:99999/", "egress.url.invalid"),
    ],
)
def test_urls_that_are_refused(url, want):
    out = Egress(resolver=lambda _host, _port: ["1.1.1.1"])
    with pytest.raises((DataError, DeniedError)) as refused:
        out.request("GET", url)
    assert code(refused) == want
    assert "secret" not in str(refused.value)
    out.close()


def ask(raw: Callable[[socket.socket], None], **options) -> egress.Response:
    with server(raw) as port:
        out = Egress(["localhost"])
        try:
            return out.request("GET", f"http://localhost:{port}/", **options)
        finally:
            out.close()


def test_redirects_are_answers():
    got = ask(answer(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"))
    assert (got.status, got.headers["location"]) == (302, "http://10.0.0.1/")


def test_a_large_answer_is_not_read():
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + bytes(65_535) + b"\r\n"
    with pytest.raises(PermanentError) as refused:
        ask(answer(endless), max_bytes=1_000)
    assert code(refused) == "egress.response.too_large"


def test_a_packed_answer_is_not_read():
    with pytest.raises(PermanentError) as refused:
        ask(answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"))
    assert code(refused) == "egress.response.encoded"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_dripping_server_meets_the_deadline(start):
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(start)
        while not over.wait(0.02):
            connection.sendall(b"x")

    with pytest.raises(TransientError) as late:
        ask(drip, timeout=0.3)
    over.set()
    assert code(late) == "egress.time.exceeded"


def test_connection_failures_are_told():
    with pytest.raises(TransientError) as failed:
        ask(lambda connection: connection.close())
    assert code(failed) == "egress.connection.failed"
    with pytest.raises(TransientError) as failed:
        ask(answer(b"garbage\r\n\r\n"))
    assert code(failed) == "egress.connection.failed"
    out = Egress(resolver=lambda _host, _port: [])
    with pytest.raises(TransientError) as failed:
        out.request("GET", "https://nowhere.example/")
    assert code(failed) == "egress.name.unresolved"
    out.close()


def test_a_header_cannot_be_smuggled():
    with pytest.raises(DataError) as refused:
        ask(answer(OK), headers={"X-A": "1\r\nX-B: 2"})
    assert code(refused) == "egress.request.invalid"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for `good.example` alone, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "good.example")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("good.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        signed.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def test_the_certificate_is_checked_against_the_name(certificate):
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate)
    ours = ssl.create_default_context(cafile=str(certificate))
    with server(answer(OK), theirs) as port:
        out = Egress(["127.0.0.1"], resolver=lambda _host, _port: ["127.0.0.1"], context=ours)
        assert out.request("GET", f"https://good.example:{port}/").status == 200
        with pytest.raises(TransientError) as failed:
            out.request("GET", f"https://other.example:{port}/")
        out.close()
        untrusting = Egress(["127.0.0.1"], resolver=lambda _host, _port: ["127.0.0.1"])
        with pytest.raises(TransientError) as untrusted:
            untrusting.request("GET", f"https://good.example:{port}/")
        untrusting.close()
    assert code(failed) == code(untrusted) == "egress.connection.failed"
