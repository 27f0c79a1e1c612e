"""The audit says plainly when it could not ask, and the bill of materials names what is locked, with digests."""

import json
import subprocess
import tomllib

import pytest

from tests.security.audit import CLEAN, ROOT, UNKNOWN, VULNERABLE, judge, uv


def package(name: str, *vulnerabilities: str) -> dict[str, object]:
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": each, "fix_versions": ["1.1"]} for each in vulnerabilities],
    }


@pytest.mark.parametrize(
    ("packages", "code", "last"),
    [
        ([package("a"), package("b")], CLEAN, "audit: 2 packages, 0 known vulnerabilities"),
        ([package("a", "CVE-1"), package("b")], VULNERABLE, "audit: 2 packages, 1 known vulnerabilities"),
        ([package("a"), {"name": "b", "skip_reason": "not on PyPI"}], UNKNOWN, "audit: NOT COMPLETE, 1 of 2 asked"),
        ([package("a", "CVE-1"), {"name": "b", "skip_reason": "-"}], VULNERABLE, "audit: NOT COMPLETE, 1 of 2 asked"),
        ([], UNKNOWN, "audit: NOT COMPLETE, 0 of 0 asked"),
    ],
)
def test_an_audit_is_clean_only_where_every_package_was_asked_for(packages, code, last):
    answer = judge(json.dumps({"dependencies": packages}), "")
    assert (answer.code, answer.lines[-1]) == (code, last)


def test_a_vulnerability_is_named_with_what_mends_it():
    answer = judge(json.dumps({"dependencies": [package("a", "CVE-1")]}), "")
    assert answer.lines[0] == "a 1.0: CVE-1, mended in 1.1"


@pytest.mark.parametrize("out", ["", "<html>", "{}", "[]"])
def test_an_audit_that_could_not_ask_says_so_and_is_neither_clean_nor_a_finding(out):
    answer = judge(out, "WARNING\nERROR: could not connect to pypi.org\n")
    assert answer.code == UNKNOWN
    assert answer.lines == (
        "audit: NOT DONE, which says nothing of the dependencies: ERROR: could not connect to pypi.org",
    )


def test_the_bill_of_materials_names_all_that_is_locked_with_digests(tmp_path):
    """What `make sbom` runs, without the installation before it."""
    recipe = (ROOT / "Makefile").read_text().partition("\nsbom:")[2].partition("\n\n")[0]
    (line,) = [line.strip() for line in recipe.splitlines() if "cyclonedx" in line]
    file = tmp_path / "sbom.json"
    words = line.replace("$(BIN)/uv", uv()).replace("dist/sbom.json", str(file)).split()
    subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    bill = json.loads(file.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    named = {part["name"]: part for part in bill["components"]}
    locked = {each["name"] for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    needed = {"kafka-python", "msgspec", "numpy", "psutil", "faust-streaming", "aiokafka", "redis", "jinja2", "typer"}
    assert needed <= set(named) <= locked
    assert "pytest" not in named
    for part in named.values():
        files = part["externalReferences"]
        assert files, part["name"]
        assert all(digest["alg"] == "SHA-256" for each in files for digest in each["hashes"])
