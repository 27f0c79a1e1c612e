"""Two notifier workers killed at random while mail fails: none missing, none twice but in the window."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from email import message_from_bytes
from itertools import pairwise

import msgspec
import pytest

from mlmm.events import JSON, Topics, cloudevents_headers, decode_events, encode_json
from mlmm.runtime.connections import kafka_admin, kafka_consumer, kafka_producer
from mlmm.runtime.settings import KafkaSettings, Settings
from tests.alerting.mailbox import Mailbox, smtp_server
from tests.alerting.stories import Story, accuracy_rule, report, settings
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

TO = ("one@example.org", "two@example.org", "three@example.org")
NOTIFIERS, EACH = 6, 8
DEADLY, KILLS = 5, 3
"""Mails whose taking kills a worker, and kills at other moments."""


class Moody(Mailbox):
    """Takes mails in its own ways, at most two bad ones for each; taking some kills a worker before it is told."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.kill = lambda: None
        self.moods: dict[str, list[str]] = {}
        self.deadly: set[str] = set()
        self.calm = False
        self.taken: list[tuple[float, str, tuple[str, ...]]] = []
        self.unanswered: list[tuple[float, str]] = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        name = message_from_bytes(envelope.content)["Message-ID"]
        if name not in self.moods:
            others = ["", "", "451", "slow"]  # of two answers that stay away, the second would end the tries
            self.moods[name] = [self.rng.choice([*others, "lost", "unanswered"]), self.rng.choice(others)]
            if len(self.deadly) < DEADLY and self.rng.random() < 0.3:
                self.deadly.add(name)
                self.moods[name].insert(0, "deadly")
        mood = self.moods[name].pop(0) if self.moods[name] and not self.calm else ""
        if mood == "451":
            return "451 come back"
        if mood == "lost":
            server.transport.abort()
            raise ConnectionResetError
        if mood == "slow":
            await asyncio.sleep(1.0)
        answer = await super().handle_DATA(server, session, envelope)
        self.taken.append((server.began, name, tuple(envelope.rcpt_tos)))
        if mood == "deadly":
            self.kill()
        if mood == "unanswered":
            self.unanswered.append((time.monotonic(), name))
            server.transport.abort()
            raise ConnectionResetError
        return answer


class House:
    """Topics of their own, two workers as ``mlmm alerting`` starts them, and what they did."""

    def __init__(self, kafka: str, folder, port: int, rng: random.Random) -> None:
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self.rng = rng
        self.config = folder / "mlmm.toml"
        notifiers = "".join(f'[notifiers.team-{n}]\nkind = "email"\nto = {list(TO)}\n' for n in range(NOTIFIERS))
        self.config.write_text(
            f'deployment = "{self.name}"\ntopic_prefix = "{self.name}"\n'
            f'[kafka]\nbootstrap_servers = "{kafka}"\nsession_timeout = "6s"\nheartbeat_interval = "1s"\n'
            f'[smtp]\nhost = "127.0.0.1"\nport = {port}\ntimeout = "20s"\nanswer_timeout = "60s"\n{notifiers}'
        )
        self.log = folder / "workers.log"
        self.settings = Settings(
            deployment=self.name, topic_prefix=self.name, kafka=KafkaSettings(bootstrap_servers=kafka)
        )
        self.topics = Topics(self.name)
        self.workers: list[subprocess.Popen] = []
        self.kills: list[float] = []
        self._lock = threading.Lock()
        from kafka.admin import NewTopic

        with contextlib.closing(kafka_admin(self.settings)) as admin:
            compacted = {"cleanup.policy": "compact"}
            outcomes = NewTopic(self.topics.notification_outcomes, 3, 1, topic_configs=compacted)
            admin.create_topics([NewTopic(self.topics.notifications, 6, 1), outcomes])
        self.reader = kafka_consumer(
            self.settings, self.topics.notification_outcomes, auto_offset_reset="earliest", enable_auto_commit=False
        )
        self.ends: list = []

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "mlmm.console", "alerting", "--slot", "1", "--config", str(self.config)]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def keep(self, count: int) -> None:
        """Start workers until so many run, as a supervisor does."""
        with self._lock:
            self.workers = [each for each in self.workers if each.poll() is None]
            self.workers += [self.start() for _ in range(count - len(self.workers))]

    def kill(self) -> None:
        with self._lock:
            running = [each for each in self.workers if each.poll() is None]
            if running:
                self.kills.append(time.monotonic())
                os.kill(self.rng.choice(running).pid, signal.SIGKILL)

    def stop(self) -> None:
        with self._lock:
            for each in self.workers:
                each.terminate()
            for each in self.workers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    each.wait(60)
                each.kill()
                each.wait()
            self.workers = []

    def close(self) -> None:
        self.stop()
        self.reader.close()

    def send(self, notifications) -> None:
        with contextlib.closing(kafka_producer(self.settings)) as producer:
            for each in notifications:
                headers = cloudevents_headers(
                    "mlmm.notification.v1", each.notification_id, "test", each.created, JSON, sequence="0"
                )
                key = each.notifier.encode()
                producer.send(self.topics.notifications, key=key, value=encode_json(each), headers=headers)
            producer.flush(60)

    def ended(self) -> list:
        """Read on; return the outcomes that are ends."""
        for records in self.reader.poll(timeout_ms=200).values():
            for record in records:
                found = decode_events("mlmm.notification.outcome.v1", JSON, record.value, key=record.key)
                self.ends += [each for each in found if each.state != "retrying"]
        return self.ends

    def forget_offsets(self) -> None:
        """Put the group back to the beginning: what an hour older would be, and more."""
        from kafka import OffsetAndMetadata, TopicPartition

        group = f"{self.name}-notifier"
        with contextlib.closing(kafka_consumer(self.settings, group_id=group, enable_auto_commit=False)) as consumer:
            partitions = [TopicPartition(self.topics.notifications, n) for n in range(6)]
            consumer.assign(partitions)
            consumer.commit(dict.fromkeys(partitions, OffsetAndMetadata(0, "", -1)))


def notifications(count: int):
    story = Story(settings(accuracy_rule()))
    story.tell(*(report(0, 0.8, model=f"fraud-{i}") for i in range(count)))
    made = story.of("notifications")
    return [msgspec.structs.replace(note, notifier=f"team-{i % NOTIFIERS}") for i, note in enumerate(made)]


def test_workers_killed_at_random_while_the_mail_server_misbehaves(kafka, tmp_path):
    seed = int(os.environ.get("MLMM_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"MLMM_TEST_SEED={seed}")
    rng = random.Random(seed)
    box = Moody(random.Random(seed + 1))
    *batch, last = notifications(NOTIFIERS * EACH + 1)
    with smtp_server(box=box) as (_, port):
        house = House(kafka, tmp_path, port, rng)
        box.kill = house.kill
        try:
            house.keep(2)
            house.send(batch)
            at = sorted(rng.sample(range(1, len(batch)), KILLS))

            def all_ended() -> bool:
                house.keep(2)
                if at and len(box.taken) >= at[0]:
                    at.pop(0)
                    house.kill()
                return len(house.ended()) >= len(batch)

            wait_until(all_ended, timeout=400, what="an outcome of every notification", every=0.05)
            house.stop()
            check(house, box, batch)
            before, box.calm = len(box.taken), True
            house.forget_offsets()
            house.send([last])
            house.keep(1)
            wait_until(lambda: len(house.ended()) > len(batch), timeout=120, what="the outcome of a later one")
            house.stop()
            assert len(box.taken) == before + 1, "what has an outcome is not mailed again, wherever offsets stand"
        except BaseException:
            print(house.log.read_text())
            raise
        finally:
            house.close()


def check(house: House, box: Moody, batch) -> None:
    ends = Counter(each.notification_id for each in house.ends)
    assert ends == Counter(each.notification_id for each in batch), "exactly one outcome each"
    assert {(each.state, each.delivered_to) for each in house.ends} == {("delivered", TO)}
    copies = Counter(name for _, name, _ in box.taken)
    assert len(copies) == len(batch), "none missing"
    assert {to for _, _, to in box.taken} == {TO}
    for name in copies:
        # Of a killed worker the server may still read what it had sent: a session counts from its beginning.
        for first, second in pairwise(moment for moment, each, _ in box.taken if each == name):
            dropped = any(each == name and first <= moment <= second for moment, each in box.unanswered)
            killed = any(first <= moment <= second for moment in house.kills)
            assert dropped or killed, f"{name} came twice, outside of the window"
    twice = sum(copies.values()) - len(copies)
    print(
        f"{len(copies)} notifications, {len(house.kills)} kills, {len(box.unanswered)} unanswered, {twice} second mails"
    )
    assert len(house.kills) >= DEADLY
