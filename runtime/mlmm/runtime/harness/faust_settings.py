"""Our settings as Faust's: membership and fetching on, everything else of it off."""

import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["faust_settings"]

FETCH_BYTES = 8 << 20
"""Of one partition at once: a backlog is taken in polls of some ten thousand events."""
CLAIM_TIMEOUT = 300.0
"""Faust gives `perform_seek` its request timeout: loading states and draining outboxes must fit."""


def faust_settings(settings: "Settings", *, group: str, slot: str, host: str) -> dict[str, Any]:
    """Make the keyword arguments of the app.

    Parameters
    ----------
    settings : Settings
        Sections ``kafka`` and ``worker``.
    group : str
        Name of the consumer group.
    slot : str
        Name of this process in it, fixed: a restart within the session needs no rebalance.
    host : str
        Name of this machine.
    """
    import faust  # noqa: PLC0415 - takes a second to import

    options: dict[str, Any] = dict(settings.kafka.client_options("aiokafka"))
    servers = options["bootstrap_servers"]
    addresses = servers.split(",") if isinstance(servers, str) else list(servers)
    context = options.get("ssl_context")
    credentials: Any = None
    if options.get("sasl_mechanism"):
        credentials = faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
        credentials.protocol = faust.types.auth.AuthProtocol(options["security_protocol"])
    elif context is not None:
        credentials = faust.SSLCredentials(context)
    kafka, worker = settings.kafka, settings.worker
    return {
        "id": group,
        "broker": [f"kafka://{address.strip()}" for address in addresses],
        "broker_credentials": credentials,
        "broker_session_timeout": kafka.session_timeout,
        "broker_heartbeat_interval": kafka.heartbeat_interval,
        "broker_request_timeout": max(
            CLAIM_TIMEOUT, settings.redis.give_up_after + worker.stall_after + 30, kafka.session_timeout
        ),
        "broker_max_poll_records": worker.poll_records,
        "broker_max_poll_interval": 24 * 3600.0,
        "broker_commit_interval": 60.0,
        "consumer_auto_offset_reset": "earliest",
        # The embedded broker takes a name and does not understand it: who comes back under it waits for a session.
        "consumer_group_instance_id": None if kafka.api_version else f"{group}.{slot}",
        "consumer_max_fetch_size": FETCH_BYTES,
        "canonical_url": f"http://{host}/{group}/{slot}",
        "datadir": tempfile.gettempdir(),
        "store": "memory://",
        "stream_wait_empty": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        "autodiscover": False,
    }
