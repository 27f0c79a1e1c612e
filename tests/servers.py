"""Kafka and Redis as processes of the tests' own: started, stopped, killed, frozen, put back, led astray."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.waiting import wait_until

KAFKA_VERSION = "4.3.1"
POM = Path(__file__).parent / "broker" / "pom.xml"
PR_SET_PDEATHSIG = 1
ASIDE = """listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,ASIDE:PLAINTEXT
inter.broker.listener.name=ASIDE"""

__all__ = ["KafkaServer", "NoServiceError", "RedisServer", "free_port"]


class NoServiceError(RuntimeError):
    """A service that can't be had on this machine; the message says what to install."""


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class _Server:
    """A process that can be started, stopped, killed, frozen and started again on the same port and data."""

    process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        raise AssertionError

    def _answers(self) -> bool:
        raise AssertionError

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"

    def start(self, timeout: float = 180) -> None:
        """Start and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - children start from the main thread
            )
        process = self.process

        def answers() -> bool:
            if process.poll() is not None:
                raise AssertionError(
                    f"{type(self).__name__} ended with {process.returncode}: {self.log.read_text()[-3000:]}"
                )
            return self._answers()

        wait_until(answers, timeout=timeout, what=f"{type(self).__name__} to answer", every=0.1)

    def stop(self, timeout: float = 30) -> None:
        """End it in good order."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)


class KafkaServer(_Server):
    """A KRaft broker and controller in one process, on loopback.

    Parameters
    ----------
    folder : Path
        Where its files go.
    port : int, optional
        Where it listens; else a free port.
    advertised : str, optional
        ``host:port`` that clients of this port are sent to: a proxy's, since clients reconnect to what a broker
        advertises, never to what they dialled. Who dials ``aside`` stays there.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        advertised: str | None = None,
    ) -> None:
        super().__init__(folder)
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.aside = self.address if advertised is None else f"127.0.0.1:{free_port()}"
        """Where the broker is met whatever stands before ``address``."""
        self.advertised = advertised or self.address
        self.jars = kafka_jars()
        self.config = folder / "server.properties"
        self.config.write_text(self._properties())
        format_ = ["format", "--standalone", "-t", "MLMMtestsMLMMtestsMLMM", "-c", str(self.config)]
        self._java("kafka.tools.StorageTool", *format_, *self._format_arguments())

    def _properties(self) -> str:
        """What stands in ``server.properties``; of a key that stands there twice the last counts."""
        controller = free_port()
        aside = "" if self.aside == self.address else f",ASIDE://{self.aside}"
        return f"""process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}{aside}
advertised.listeners=PLAINTEXT://{self.advertised}{aside}
controller.listener.names=CONTROLLER
log.dirs={self.folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
{ASIDE if aside else ""}
"""

    def _format_arguments(self) -> list[str]:
        """More arguments for formatting the storage, such as the users that log on."""
        return []

    def _java(self, main: str, *arguments: str) -> None:
        done = subprocess.run(
            ["java", "-cp", f"{self.jars}/*", main, *arguments], capture_output=True, check=False, cwd=self.folder
        )
        if done.returncode:
            raise NoServiceError(f"{main} failed: {done.stdout.decode()} {done.stderr.decode()}")

    def _command(self) -> list[str]:
        # Serial collector and first-tier compiler: on two cores the broker starts sooner, leaving more for the tests.
        flags = ["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *flags, "-cp", f"{self.jars}/*", "kafka.Kafka", str(self.config)]

    def _answers(self) -> bool:
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        host, port = self.aside.split(":")
        with socket.socket() as s:
            s.settimeout(0.5)
            if s.connect_ex((host, int(port))):
                return False
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.aside, request_timeout_ms=3000)
            try:
                admin.list_topics()
            finally:
                admin.close()
        except (KafkaError, OSError, ValueError):
            return False
        return True


class RedisServer(_Server):
    """A Redis that refuses to evict, on loopback.

    Parameters
    ----------
    folder : Path
        Where its files go.
    aof : bool
        Whether it writes an append-only file.
    port : int, optional
        Where it listens; else a free port.
    fsync : str
        When that file is forced to disk: ``always``, ``everysec``, ``no``.
    options : Mapping, optional
        More of its options, such as ``maxmemory``; they win.
    """

    def __init__(
        self,
        folder: Path,
        *,
        aof: bool = False,
        port: int | None = None,
        fsync: str = "everysec",
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if not found:
            raise NoServiceError("no redis-server: apt-get install redis-server (or give MLMM_TEST_REDIS)")
        self.binary, self.port = found, port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}/0"
        self.options = {
            "port": str(self.port), "bind": "127.0.0.1", "dir": str(folder), "save": "", "daemonize": "no",
            "appendonly": "yes" if aof else "no", "appendfsync": fsync, "maxmemory-policy": "noeviction",
            "loglevel": "warning", **(options or {}),
        }  # fmt: skip

    def _options(self) -> dict[str, object]:
        return dict(self.options)

    def _command(self) -> list[str]:
        return [self.binary, *(part for k, v in self._options().items() for part in (f"--{k}", str(v)))]

    def _answers(self) -> bool:
        import redis

        try:
            with redis.Redis(port=self.port, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def set(self, **options: str) -> None:
        """Change options while it runs, and for its next start; ``_`` stands for ``-``."""
        import redis

        named = {name.replace("_", "-"): value for name, value in options.items()}
        with redis.Redis(port=self.port) as client:
            for name, value in named.items():
                client.config_set(name, value)
        self.options |= named

    def replica_of(self, other: str | None) -> None:
        """Follow the one at an address (a proxy's, perhaps) and wait until it was copied; None: be a master."""
        import redis

        with redis.Redis(port=self.port) as client:
            if other is None:
                client.execute_command("REPLICAOF", "NO", "ONE")
                return
            client.execute_command("REPLICAOF", *other.split(":"))
            wait_until(
                lambda: client.info("replication").get("master_link_status") == "up",
                timeout=60,
                what="the replica to have copied its master",
            )

    def snapshot(self, folder: Path) -> None:
        """Copy its files as they are, while it runs: what a backup holds."""
        import redis

        if self.options["appendonly"] == "no":
            with redis.Redis(port=self.port) as client:
                client.save()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in self._files():
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copy(self.folder / file, folder / file)

    def restore(self, folder: Path) -> None:
        """Put the files of a snapshot in the place of those of one that does not run."""
        for file in self._files():
            (self.folder / file).unlink()
        shutil.copytree(folder, self.folder, dirs_exist_ok=True)

    def _files(self) -> list[Path]:
        found = [*self.folder.glob("*.aof"), *self.folder.glob("*.rdb"), *self.folder.glob("appendonlydir/*")]
        return sorted(file.relative_to(self.folder) for file in found)

    def lose_tail(self, count: int) -> int:
        """Cut the last bytes off the append-only file of one that was killed; return how many.

        What a process wrote survives its death: only with the machine's is lost what was not forced to disk.
        """
        files = [self.folder / file for file in self._files() if file.suffix == ".aof" and ".base." not in file.name]
        newest = max(files, key=lambda file: file.stat().st_mtime)
        size = newest.stat().st_size
        lost = min(count, size)
        os.truncate(newest, size - lost)
        return lost


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars, fetched once with Maven into the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlmm" / f"kafka-{KAFKA_VERSION}"
    if (cache / "complete").exists():
        return cache / "jars"
    missing = [tool for tool in ("java", "mvn") if not shutil.which(tool)]
    if missing:
        raise NoServiceError(
            f"no Docker engine, and {' and '.join(missing)} not found: apt-get install openjdk-17-jre-headless maven "
            "(or give MLMM_TEST_KAFKA)"
        )
    cache.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=cache))
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={staging}"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise NoServiceError(f"Maven could not fetch Kafka {KAFKA_VERSION}: {done.stdout.decode()[-2000:]}")
    with contextlib.suppress(OSError):  # another run was first: its jars are the same
        staging.rename(cache / "jars")
    (cache / "complete").touch()
    return cache / "jars"
