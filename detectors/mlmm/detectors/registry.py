"""Detectors by the names that settings use, ours and those that users install.

A user's package adds one through an entry point::

    [project.entry-points."mlmm.detectors"]
    my_detector = "my_package.detectors:MyDetector"

The class must keep the contract of `Detector`; ``tests/detectors/test_conformance.py`` is what we hold ours against.
"""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from .detector import Detector

__all__ = ["GROUP", "detector_names", "find_detector"]

GROUP = "mlmm.detectors"
"""The entry-point group."""

_OURS = {
    "adwin": ("adwin", "ADWIN"),
    "calibrated": ("calibrated", "Calibrated"),
    "cusum": ("cusum", "CUSUM"),
    "ddm": ("ddm", "DDM"),
    "eddm": ("eddm", "EDDM"),
    "ewma": ("ewma", "EWMA"),
    "fhddm": ("fhddm", "FHDDM"),
    "hddm_a": ("hddm", "HDDMA"),
    "hddm_w": ("hddm", "HDDMW"),
    "kswin": ("kswin", "KSWIN"),
    "page_hinkley": ("page_hinkley", "PageHinkley"),
    "shewhart": ("shewhart", "Shewhart"),
    "stepd": ("stepd", "STEPD"),
}
_CONTRACT = (
    "drift_detected",
    "warning_detected",
    "estimation",
    "missing",
    "update",
    "update_many",
    "to_bytes",
    "from_bytes",
)


def detector_names() -> tuple[str, ...]:
    """Names of all detectors that there are, sorted; loads none of them."""
    return tuple(sorted({*_OURS, *(entry.name for entry in entry_points(group=GROUP))}))


def find_detector(name: str) -> type[Detector]:
    """Find a detector's class.

    Parameters
    ----------
    name : str
        One of `detector_names`.

    Raises
    ------
    ValueError
        If there is none of that name, or several, or what the entry point names does not keep the contract.
    """
    installed = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if name in _OURS:
        if installed:
            raise ValueError(f"detector {name!r} is ours; {_origin(installed[0])} must choose another name")
        module, attribute = _OURS[name]
        ours: type[Detector] = getattr(import_module(f".{module}", __package__), attribute)
        return ours
    if not installed:
        raise ValueError(f"there is no detector {name!r}; there are {', '.join(detector_names())}")
    if len(installed) > 1:
        raise ValueError(f"detector {name!r} is declared by {' and '.join(map(_origin, installed))}; uninstall one")
    return _load(installed[0])


def _load(entry: EntryPoint) -> type[Detector]:
    found = entry.load()
    if not isinstance(found, type):
        raise ValueError(f"detector {entry.name!r}: {_origin(entry)} is not a class")  # noqa: TRY004 - one error to catch
    lacking = [name for name in _CONTRACT if not hasattr(found, name)]
    if lacking:
        raise ValueError(f"detector {entry.name!r}: {_origin(entry)} lacks {', '.join(lacking)}")
    return found


def _origin(entry: EntryPoint) -> str:
    return f"{entry.value} ({entry.dist.name})" if entry.dist else entry.value
