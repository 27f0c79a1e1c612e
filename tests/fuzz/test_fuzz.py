"""The fuzzer for about a minute, and all that it ever found."""

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.cases import CORPUS, load
from tests.fuzz.fuzzer import Fuzzer, fails

SECONDS = float(os.environ.get("MLMM_FUZZ_SECONDS", "45"))
NOW = 1_790_000_000_000
FILES = sorted(CORPUS.glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_was_once_found_holds_now(file: Path):
    error = fails(load(file), NOW)
    if error is not None:
        raise error


@pytest.mark.slow
def test_whatever_is_sent_no_worker_dies_and_the_state_is_whole(tmp_path: Path):
    """`python -m tests.fuzz --seconds 3600` is the same for an hour."""
    seed = int(os.environ.get("MLMM_TEST_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"seed: MLMM_TEST_SEED={seed}")
    fuzzer = Fuzzer(seed, tmp_path)
    fuzzer.run(SECONDS)
    found = "\n".join(f"{finding.file}\n{finding.trace}" for finding in fuzzer.findings.values())
    assert not fuzzer.findings, f"{found}\nPut the files into {CORPUS} and mend what they show"
    assert fuzzer.letters > 50
    assert fuzzer.records - fuzzer.letters > 50
