"""Run one worker process of the counting processor: ``python -m tests.runtime.counting_worker '<JSON>'``."""

import json
import logging
import sys

from mlmm.runtime.harness import run_worker
from mlmm.runtime.settings import load
from tests.runtime.counting import Counting


class _WithExtras(logging.Formatter):
    _PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        extras = {name: value for name, value in vars(record).items() if name not in self._PLAIN}
        return f"{super().format(record)} {extras or ''}"


def main() -> int:
    given = json.loads(sys.argv[1])
    handler = logging.StreamHandler()
    handler.setFormatter(_WithExtras("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=given.get("level", "INFO"), handlers=[handler])
    for noisy in ("kafka", "aiokafka", "faust", "mode"):
        logging.getLogger(noisy).setLevel(given.get("noise", "WARNING"))
    settings = load(env={}, arguments=given["settings"])
    processors = [Counting(**each) for each in given.get("processors", [{}])]
    return run_worker(settings, processors, group=given.get("group", "workers"), slot=given["slot"])


if __name__ == "__main__":
    sys.exit(main())
