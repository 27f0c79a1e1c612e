"""A WSGI application for prefork servers: answers ``/ID`` by logging a prediction of that id.

``SERVED`` in the environment holds the settings; with ``SERVED_BEFORE`` the importing process logs, too, which with
gunicorn's ``--preload`` is the master before it forks.
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from mlmm.producers import Monitor
from mlmm.runtime.settings import load

monitor = Monitor("fraud", settings=load(env={}, arguments=json.loads(os.environ["SERVED"])), on_error="raise")
if os.environ.get("SERVED_BEFORE"):
    monitor.log_prediction(f"import-{os.getpid()}", {"a": 1.0}, 1)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Log and answer."""
    monitor.log_prediction(environ["PATH_INFO"][1:], {"a": 1.0}, 1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
