"""A topic that was made anew: the states made from the old one are refused, until they are adopted."""

from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from mlmm.console.adopting import adopt_topic
from mlmm.runtime import claims, topics
from mlmm.runtime.commits import Commit, commit
from mlmm.runtime.connections import redis_client
from mlmm.runtime.errors import LogChanged, SettingsError
from mlmm.runtime.harness.worker import describe
from mlmm.runtime.settings import Settings, load
from mlmm.runtime.store import Keys, read_cells
from tests.services import unique
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


def log_of(settings: Settings, topic: str) -> claims.Log:
    topic_id, partitions = describe(settings, [topic])[topic]
    return claims.Log(topic=topic, partition=0, topic_id=topic_id, partitions=partitions, first=0, end=100)


def test_states_go_on_with_a_topic_made_anew_once_it_is_adopted(kafka: str, redis_url: str, tmp_path: Path) -> None:
    """The worker is refused and told the command; then cells are kept, the epoch is higher, the offset new."""
    name = unique("adopt")
    config = tmp_path / "mlmm.toml"
    config.write_text(f'deployment = "{name}"\ntopic_prefix = "{name}"\n')
    settings = load(config, env={"MLMM_KAFKA__BOOTSTRAP_SERVERS": kafka, "MLMM_REDIS__URL": redis_url})
    topics.create(settings)
    redis, keys, serving = redis_client(settings), Keys.of(name, "serving", 0), f"{name}.serving"
    held = claims.claim(redis, keys, log_of(settings, serving))
    change = Commit(id="c1", expected=0, offset=40, log_time=1, cells={b"cell": b"kept"}, outputs=(), seen={})
    commit(redis, keys, held, change)

    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_topics([serving])

    def made() -> bool:
        try:
            return any(r.topic == serving and r.state == "created" for r in topics.create(settings))
        except KafkaError:
            return False

    wait_until(made, timeout=30, what="the topic to be made anew", every=0.2)
    admin.close()
    with pytest.raises(LogChanged, match=f"mlmm topics adopt {serving}"):
        claims.claim(redis, keys, log_of(settings, serving))

    (adopted,) = adopt_topic(settings, "serving")
    assert (adopted.partition, adopted.was, adopted.offset) == (0, 40, 0)
    again = claims.claim(redis, keys, log_of(settings, serving))
    assert again.offset == 0
    assert again.epoch == held.epoch + 1
    assert read_cells(redis, name, "serving", 0) == (0, {b"cell": b"kept"})
    with pytest.raises(SettingsError, match="one of serving, training, findings"):
        adopt_topic(settings, "commands")
