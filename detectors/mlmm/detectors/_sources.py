"""A digest of the source that a compiled kernel is made from.

Numba's cache looks at the file of the function it caches and at no other. A kernel that inlines another module's
kernel, or freezes another module's constant, would be loaded stale after an upgrade. So the digest here covers every
module of ours that the kernel's module mentions, and what those mention, to the end.
"""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

__all__ = ["source_digest"]

# A mention anywhere in the text counts, also in strings and lazy facades: too many files cost a compilation, one too
# few costs a wrong result.
_MENTION = re.compile(rb"\bmlmm(?:\.\w+)+")
_FROM = re.compile(rb"^\s*from\s+(mlmm(?:\.\w+)*)\s+import\s+(\([^)]*\)|[^\n]*)", re.MULTILINE)
_RELATIVE = re.compile(rb"^\s*from\s+(\.+)([\w.]*)\s+import\s+(\([^)]*\)|[^\n]*)", re.MULTILINE)
_NAME = re.compile(rb"\w+")


@lru_cache(maxsize=None)  # noqa: UP033 - functools.cache is the same; the parameter says that it is bounded by our files
def source_digest(path: str, module: str) -> str:
    """Digest of one module and of all modules of ours that it can reach.

    Parameters
    ----------
    path : str
        The file of the module.
    module : str
        Its dotted name.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    seen: dict[str, bytes] = {}
    waiting = [(module, Path(path))]
    while waiting:
        name, file = waiting.pop()
        if name in seen:
            continue
        text = file.read_bytes()
        seen[name] = text
        for mentioned in sorted(_mentions(text, name, is_package=file.name == "__init__.py")):
            waiting.extend(item for item in _files(mentioned) if item[0] not in seen)
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(seen):
        digest.update(f"{name}\0{len(seen[name])}\0".encode())
        digest.update(seen[name])
    return digest.hexdigest()


def _mentions(text: bytes, module: str, *, is_package: bool) -> set[str]:
    """Dotted names of ours that a source mentions; some may be a function's, not a module's."""
    found = {match.decode() for match in _MENTION.findall(text)}
    for base, names in _FROM.findall(text):
        found.update(f"{base.decode()}.{name.decode()}" for name in _NAME.findall(names))
    parts = module.split(".")
    package = parts if is_package else parts[:-1]
    for dots, tail, names in _RELATIVE.findall(text):
        base = ".".join([*package[: len(package) - len(dots) + 1], *filter(None, [tail.decode()])])
        found.add(base)
        found.update(f"{base}.{name.decode()}" for name in _NAME.findall(names))
    return found


def _files(dotted: str) -> list[tuple[str, Path]]:
    """The source files that a dotted name may stand for: a module, or a package with all that lies directly in it."""
    import mlmm  # noqa: PLC0415 - the namespace has no module of its own; its path lists the rooms

    _, *parts = dotted.split(".")
    for root in map(Path, mlmm.__path__):
        here = root.joinpath(*parts)
        if parts and here.with_suffix(".py").is_file():
            return [(dotted, here.with_suffix(".py"))]
        if len(parts) > 0 and (here / "__init__.py").is_file():
            return [
                (dotted if file.name == "__init__.py" else f"{dotted}.{file.stem}", file)
                for file in sorted(here.glob("*.py"))
            ]
    return []
