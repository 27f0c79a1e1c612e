"""``make audit``: ask whether anything that is locked is known to be vulnerable; ``make sbom`` says what is locked.

``python -m tests.security.audit [REQUIREMENTS]`` runs pip-audit over ``uv.lock`` (or a file) and ends with 0 where
nothing is known, 1 where something is (each is printed), and 3 where it could not ask, which is no answer.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Answer", "judge", "main", "uv"]

PIP_AUDIT = "pip-audit==2.10.1"
ROOT = Path(__file__).parents[2]
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 3


class Answer(NamedTuple):
    """What came of an audit."""

    code: int
    lines: tuple[str, ...]


def judge(out: str, err: str) -> Answer:
    """Read what pip-audit said: its exit code is 1 both for a finding and for a network that is away."""
    try:
        packages: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = [line for line in err.splitlines() if line.strip()]
        why = said[-1].strip() if said else "pip-audit said nothing"
        return Answer(UNKNOWN, (f"audit: NOT DONE, which says nothing of the dependencies: {why}",))
    left_out = [p for p in packages if "skip_reason" in p]
    found = [(p, v) for p in packages for v in p.get("vulns", ())]
    lines = [
        f"{p['name']} {p['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'no version yet'}"
        for p, v in found
    ]
    lines += [f"{p['name']}: not looked up: {p['skip_reason']}" for p in left_out]
    asked = len(packages) - len(left_out)
    if not asked or left_out:
        return Answer(
            VULNERABLE if found else UNKNOWN, (*lines, f"audit: NOT COMPLETE, {asked} of {len(packages)} asked")
        )
    lines.append(f"audit: {asked} packages, {len(found)} known vulnerabilities")
    return Answer(VULNERABLE if found else CLEAN, tuple(lines))


def uv() -> str:
    """Return the uv that ``make install`` puts into the environment."""
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if found is None:
        raise SystemExit("no uv: run `make install`")
    return found


def main(arguments: Sequence[str]) -> int:
    """Run it; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(arguments[0]) if arguments else Path(folder) / "locked.txt"
        if not arguments:
            what = ["--frozen", "--all-extras", "--all-groups", "--no-emit-project"]
            export = [uv(), "export", "-q", *what, "-o", str(locked)]
            subprocess.run(export, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        options = ["--format", "json", "--progress-spinner", "off", "--disable-pip", "--timeout", "20"]
        options += [] if "--hash=" in locked.read_text() else ["--no-deps"]
        ask = [uv(), "tool", "run", "--from", PIP_AUDIT, "pip-audit", "-r", str(locked), *options]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
    answer = judge(done.stdout, done.stderr)
    print(*answer.lines, sep="\n")
    return answer.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
