"""``python -m tests.fuzz --seconds 3600 --seed N``: the fuzzer for as long as you like; exit code 1 with a finding."""

import argparse
import random
import sys
from pathlib import Path

from tests.fuzz.cases import CORPUS
from tests.fuzz.fuzzer import Fuzzer


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="Where findings go; default: %(default)s")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    fuzzer = Fuzzer(given.seed, given.corpus)
    fuzzer.run(given.seconds, say=print)
    print(
        f"{fuzzer.records:,} records, {fuzzer.letters:,} dead letters, {fuzzer.reasons} outcomes told apart, "
        f"{len(fuzzer.findings)} findings"
    )
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
