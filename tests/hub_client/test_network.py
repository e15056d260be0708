"""How the network is reached: proxies, certificates, connections, headers."""

from __future__ import annotations

import contextlib
import email.utils
import itertools
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from catalog.errors import AccessError, NetworkError, NotFoundError
from hub_client.network import Http, HttpSettings
from hub_client.patience import Patience, Transient


@pytest.fixture
def http():
    http = Http()
    yield http
    http.close()


def body_by(settings: HttpSettings | None, url: str) -> bytes:
    with contextlib.closing(Http(settings)) as http:
        return body_of(http, url)


def body_of(http: Http, url: str, **more: object) -> bytes:
    with http.get(url, **more) as response:
        return response.read(1 << 20)


@pytest.fixture
def by_hand():
    """Make a server that sends what it is told to a request, byte by byte as it comes."""
    with contextlib.ExitStack() as stack:

        def start(*pieces, pause_s=0.0):
            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            connection.recv(65536)
                            for piece in itertools.chain.from_iterable(pieces):
                                connection.sendall(piece)
                                time.sleep(pause_s)

            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=serve, daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}/w"

        yield start


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1,DNS:weights.example"
    both = [*command.split(), "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    subprocess.run(both, check=True, capture_output=True)
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.fixture
def secure(server, certificate):
    """The server by HTTPS; its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    http = server._http
    http.socket = context.wrap_socket(http.socket, server_side=True)
    return server.url().replace("http:", "https:")


class Proxy(BaseHTTPRequestHandler):
    """Takes CONNECT to anywhere to one server, and forwards GET."""

    asked: list[tuple[str, str, str | None]]
    target: int

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        with socket.create_connection(("127.0.0.1", self.target)) as there:
            self.send_response(200)
            self.end_headers()
            pair = [self.connection, there]
            with contextlib.suppress(OSError):
                while True:
                    for ready in select.select(pair, [], [], 5)[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        pair[ready is pair[0]].sendall(data)

    def do_GET(self) -> None:
        self.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"proxy")


@pytest.fixture
def proxy(server, monkeypatch):
    handler = type("Handler", (Proxy,), {"asked": [], "target": server._http.server_port})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler.url = f"http://me:secret@127.0.0.1:{proxy.server_port}"
    yield handler
    proxy.shutdown()
    proxy.server_close()


def test_https_is_checked_against_the_certificates_of_the_environment(
    server, served, secure, certificate, monkeypatch
):
    server.files["/w"] = served(b"body")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NetworkError, match="cannot be verified") as caught:
        body_by(None, f"{secure}/w")
    assert "SSL_CERT_FILE" in caught.value.hint
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(certificate[0]))
            assert body_by(None, f"{secure}/w") == b"body"
    assert body_by(HttpSettings(cert=certificate[0]), f"{secure}/w") == b"body"
    trusting = HttpSettings(trusted_hosts=("127.0.0.1",))
    assert body_by(trusting, f"{secure}/w") == b"body"


def test_https_goes_through_the_proxy_of_the_environment(
    server, served, secure, certificate, proxy, monkeypatch
):
    server.files["/w"] = served(b"body")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert body_by(None, "https://weights.example/w") == b"body"
    assert proxy.asked == [("CONNECT", "weights.example:443", "Basic bWU6c2VjcmV0")]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert body_by(None, f"{secure}/w") == b"body"
    assert len(proxy.asked) == 1


def test_http_goes_through_the_proxy_by_whole_addresses(proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy.url)
    assert body_by(None, "http://weights.example/a%20b?c=d") == b"proxy"
    [(_, path, authorization)] = proxy.asked
    assert path == "http://weights.example/a%20b?c=d"
    assert authorization == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize("proxy", ["http://:3128", "[::", "host:port", "http://me:secret@:1"])
def test_a_proxy_that_is_no_address_is_said(proxy, monkeypatch):
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(NetworkError, match="is no address") as caught:
        body_by(None, "https://weights.example/a")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_named(url, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(NetworkError, match="proxy") as caught:
        body_by(None, "https://weights.example/w")
    assert "NO_PROXY" in caught.value.hint


def test_one_connection_serves_many_requests_and_an_idle_one_may_be_gone(server, served, http):
    server.files["/w"] = served(b"body")
    for _ in range(3):
        assert body_of(http, server.url("/w")) == b"body"
    assert len({headers["peer"] for _, _, headers in server.log}) == 1
    [connection] = next(iter(http._connections._idle.values()))
    connection.sock.shutdown(socket.SHUT_RDWR)  # as a server that closes what is idle
    assert body_of(http, server.url("/w")) == b"body"


def test_private_headers_stay_with_their_origin(server, other_server, served, http):
    private = {"Authorization": "Bearer secret", "X-Key": "secret"}
    there = other_server.url("/w")
    server.files["/near"] = served(b"near")
    server.files["/far"] = served(b"", statuses=[302], headers={"Location": there})
    server.files["/back"] = served(b"", statuses=[302], headers={"Location": "/near"})
    other_server.files["/w"] = served(b"far")
    assert body_of(http, server.url("/far"), private=private) == b"far"
    assert body_of(http, server.url("/back"), private=private) == b"near"
    assert server.asked("/near", "authorization") == ["Bearer secret"]
    assert other_server.asked("/w", "authorization") == [None]
    assert other_server.asked("/w", "x-key") == [None]


def test_a_header_that_cannot_be_sent_is_not_shown(server, served, http):
    server.files["/w"] = served(b"body")
    with pytest.raises(NetworkError) as caught:
        body_of(http, server.url("/w"), private={"Authorization": "Bearer s3cret\nX: y"})
    assert "s3cret" not in caught.value.message


def test_a_head_follows_only_on_its_own_origin(server, other_server, served, http):
    there = other_server.url("/w")
    server.files["/w"] = served(b"", headers={"Location": there, "X-Repo-Commit": "abc"})
    server.files["/moved"] = served(b"body", headers={"X-Repo-Commit": "def"})
    assert http.head(server.url("/moved")).headers.get("x-repo-commit") == "def"
    assert http.head(server.url("/none")).status == 404
    assert other_server.log == []


def test_retry_after_is_read_as_seconds_and_as_a_date(server, served, http):
    for value, least, most in (
        ("7", 7, 7),
        (email.utils.formatdate(time.time() + 60, usegmt=True), 55, 61),
        (email.utils.formatdate(time.time() - 3600, usegmt=True), 0, 0),  # a clock that is wrong
        ("soon", None, None),
    ):
        server.files["/w"] = served(b"", statuses=[429], headers={"Retry-After": value})
        with pytest.raises(Transient) as caught:
            body_of(http, server.url("/w"))
        if least is None:
            assert caught.value.wait_s is None
        else:
            assert least <= caught.value.wait_s <= most


def test_an_address_that_is_not_ascii_is_escaped_once(server, served, http):
    server.files["/m%C3%A4%20x"] = served(b"body")
    for path in ("/mä x", "/m%C3%A4%20x"):
        assert body_of(http, server.url(path)) == b"body"
    server.files["/go"] = served(b"", statuses=[302], headers={"Location": "/m%C3%A4%20x"})
    assert body_of(http, server.url("/go")) == b"body"


def test_a_server_that_speaks_no_http_is_said_so(http):
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def answer() -> None:
            for _ in range(2):
                with odd.accept()[0] as connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-none\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{odd.getsockname()[1]}/w"
        with pytest.raises(NetworkError, match="broke"):
            http.read(url, limit_bytes=10, patience=Patience(tries=2, first_wait_s=0.01))
        thread.join()


def test_a_closed_door_is_no_reason_to_ask_again(server, served, http):
    server.files["/w"] = served(b"", statuses=[401])
    with pytest.raises(AccessError):
        body_of(http, server.url("/w"))


def _slowly(text):
    return (bytes([byte]) for byte in text)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([_slowly(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 99)], id="headers"),
        pytest.param([itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")], id="interim answers"),
        pytest.param(
            [[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"0")],
            id="the length of a chunk",
        ),
    ],
)
def test_an_answer_of_one_byte_now_and_then_is_given_up(by_hand, pieces):
    url = by_hand(*pieces, pause_s=0.02)
    began = time.monotonic()
    with pytest.raises(Transient, match="nothing for too long"):
        body_by(HttpSettings(timeout_s=0.3), url)
    assert time.monotonic() - began < 1.5


def test_a_small_document_that_trickles_is_given_up(by_hand):
    head = [b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n"]
    url = by_hand(head, itertools.repeat(b"x", 200), pause_s=0.02)
    patience = Patience(tries=1, slow_s=0.3)
    with (
        contextlib.closing(Http()) as http,
        pytest.raises(NetworkError, match=r"sent \d+ bytes in 0 s"),
    ):
        http.read(url, limit_bytes=4000, patience=patience)


def test_the_body_of_a_refusal_is_not_waited_for(by_hand):
    head = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 3000\r\n\r\n"]
    url = by_hand(head, itertools.repeat(b"x", 3000), pause_s=0.02)
    began = time.monotonic()
    with pytest.raises(NotFoundError):
        body_by(None, url)
    assert time.monotonic() - began < 5


def test_a_length_of_thousands_of_digits_is_none(by_hand):
    url = by_hand([b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc"])
    with contextlib.closing(Http()) as http:
        assert http.read(url, limit_bytes=10)[0] == b"abc"
