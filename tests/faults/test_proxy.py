"""The proxy of the fault tests does what its methods say."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Proxy
from tests.waiting import wait_until


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(1 << 16):
                self.request.sendall(self.server.mark + data)  # type: ignore[attr-defined]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def echo(mark: bytes = b"") -> Iterator[str]:
    """Yield the address of a server that answers what it is sent, after ``mark``."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        server.mark = mark  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with echo() as target, Proxy(target) as standing:
        yield standing


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=60)


def ask(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    got = b""
    while len(got) < len(data) and (more := client.recv(1 << 16)):
        got += more
    return got


def test_what_is_sent_passes_both_ways(proxy: Proxy) -> None:
    """Two megabytes come back as they were sent, and are counted."""
    data = bytes(range(256)) * 8192
    with dial(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            got += client.recv(1 << 16)
        sender.join()
    assert got == data
    assert (proxy.connections, proxy.forwarded) == (1, 2 * len(data))
    wait_until(lambda: proxy.open == 0, timeout=60, what="the connection to be closed")


def test_cut_resets_what_is_open_and_refuses_what_is_new(proxy: Proxy) -> None:
    """Until it is healed, on the same port."""
    with dial(proxy) as client:
        assert ask(client, b"one") == b"one"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    proxy.cut()
    proxy.heal()
    with dial(proxy) as client:
        assert ask(client, b"two") == b"two"


def test_swallow_answers_nothing(proxy: Proxy) -> None:
    """Neither what was open nor what is new gets an answer; a healed proxy resets both, for bytes of them are gone."""
    with dial(proxy) as before:
        assert ask(before, b"one") == b"one"
        proxy.swallow()
        with dial(proxy) as after:
            for client in (before, after):
                client.sendall(b"two")
                client.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    client.recv(1)
            wait_until(lambda: proxy.connections == 2, timeout=60, what="the second connection")
            proxy.heal()
            for client in (before, after):
                client.settimeout(60)
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
    with dial(proxy) as client:
        assert ask(client, b"three") == b"three"


def test_slow_holds_each_answer_back(proxy: Proxy) -> None:
    """No answer comes before its time."""
    proxy.slow(0.2)
    with dial(proxy) as client:
        for _ in range(2):
            begun = time.monotonic()
            assert ask(client, b"late") == b"late"
            assert time.monotonic() - begun >= 0.19


def test_resets_follow_the_seed() -> None:
    """The same seed resets after the same number of chunks; healed, none."""

    def survived(seed: int) -> int:
        with echo() as target, Proxy(target, seed=seed) as proxy:
            proxy.reset_at_random(0.05)
            number = 0
            with dial(proxy) as client, contextlib.suppress(OSError):
                while ask(client, b"x"):
                    number += 1
            proxy.heal()
            with dial(proxy) as client:
                assert all(ask(client, b"x") == b"x" for _ in range(200))
            return number

    assert survived(3) == survived(3)
    assert len({survived(seed) for seed in range(4)}) > 1


def test_retarget_leads_elsewhere() -> None:
    """What was open is reset; who dials the same address finds the other server."""
    with echo(b"a") as one, echo(b"b") as other, Proxy(one) as proxy:
        with dial(proxy) as client:
            client.sendall(b"x")
            wait_until(lambda: client.recv(2, socket.MSG_PEEK) == b"ax", timeout=60, what="the answer")
            assert client.recv(2) == b"ax"
            proxy.retarget(other)
            with pytest.raises(ConnectionResetError):
                client.recv(2)
        with dial(proxy) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"b"


def test_a_service_that_is_away_is_a_reset() -> None:
    """The client of a service that refuses connections is reset."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{bound.getsockname()[1]}"
        # The reset may come before the call that dials returns.
        with Proxy(away) as proxy, pytest.raises(ConnectionResetError), dial(proxy) as client:
            client.recv(1)
