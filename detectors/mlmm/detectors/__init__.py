"""Drift detectors on plain numbers: usable without Kafka, Redis or any other part of MLMM.

Everything is loaded on first use, since numba takes more than half a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adwin import ADWIN
    from .adwin_bank import ADWINBank
    from .adwin_kernels import (
        ADWIN_LEVELS,
        AdwinArrays,
        adwin_arrays,
        adwin_estimation,
        adwin_grow,
        adwin_push,
        adwin_reset,
        adwin_run,
        adwin_take,
    )
    from .adwin_packing import adwin_pack, adwin_packed_size, adwin_unpack
    from .budget import AlarmBudget, Spending
    from .calibrated import Calibrated
    from .calibrated_bank import CalibratedBank
    from .calibrated_kernels import calibrated_push, calibrated_reset, calibrated_since
    from .calibrated_layout import (
        CalibratedArrays,
        calibrated_arrays,
        calibrated_grow,
        calibrated_plan,
        calibrated_take,
    )
    from .calibrated_packing import calibrated_pack, calibrated_packed_size, calibrated_unpack
    from .comparisons import (
        Comparison,
        chi_squared,
        g_test,
        hellinger,
        jensen_shannon,
        kolmogorov_smirnov,
        psi,
        wasserstein,
    )
    from .compiled import kernel
    from .cusum import CUSUM, CUSUMBank
    from .ddm import DDM, DDMBank
    from .detector import Detector
    from .discoveries import LOND, LORD, SAFFRON, DiscoveryControl
    from .eddm import EDDM, EDDMBank
    from .ewma import EWMA, EWMABank
    from .fhddm import FHDDM, FHDDMBank
    from .hddm import HDDMA, HDDMW, HDDMABank, HDDMWBank
    from .kswin import KSWIN
    from .multivariate import ProjectionDrift, Reservoir, RowComparison, domain_classifier, energy_test, projection_test
    from .packing import get_f64, get_u32, put_f64, put_u32
    from .page_hinkley import PageHinkley
    from .page_hinkley_bank import PageHinkleyBank
    from .page_hinkley_kernels import (
        BOTH,
        DOWN,
        UP,
        PageHinkleyArrays,
        page_hinkley_arrays,
        page_hinkley_direction,
        page_hinkley_grow,
        page_hinkley_pack,
        page_hinkley_packed_size,
        page_hinkley_push,
        page_hinkley_reset,
        page_hinkley_run,
        page_hinkley_since,
        page_hinkley_take,
        page_hinkley_unpack,
    )
    from .reference import CategoryReference, Counts, NumericReference
    from .registry import detector_names, find_detector
    from .run_length import (
        bernoulli_cusum_run_length,
        bernoulli_cusum_threshold,
        cusum_run_length,
        cusum_threshold,
        ewma_limit,
        ewma_run_length,
        samples_in,
    )
    from .shewhart import Shewhart, ShewhartBank
    from .sketch import QuantileSketch
    from .stepd import STEPD, STEPDBank
    from .values import LARGEST, usable

__all__ = [
    "ADWIN",
    "ADWIN_LEVELS",
    "BOTH",
    "CUSUM",
    "DDM",
    "DOWN",
    "EDDM",
    "EWMA",
    "FHDDM",
    "HDDMA",
    "HDDMW",
    "KSWIN",
    "LARGEST",
    "LOND",
    "LORD",
    "SAFFRON",
    "STEPD",
    "UP",
    "ADWINBank",
    "AdwinArrays",
    "AlarmBudget",
    "CUSUMBank",
    "Calibrated",
    "CalibratedArrays",
    "CalibratedBank",
    "CategoryReference",
    "Comparison",
    "Counts",
    "DDMBank",
    "Detector",
    "DiscoveryControl",
    "EDDMBank",
    "EWMABank",
    "FHDDMBank",
    "HDDMABank",
    "HDDMWBank",
    "NumericReference",
    "PageHinkley",
    "PageHinkleyArrays",
    "PageHinkleyBank",
    "ProjectionDrift",
    "QuantileSketch",
    "Reservoir",
    "RowComparison",
    "STEPDBank",
    "Shewhart",
    "ShewhartBank",
    "Spending",
    "adwin_arrays",
    "adwin_estimation",
    "adwin_grow",
    "adwin_pack",
    "adwin_packed_size",
    "adwin_push",
    "adwin_reset",
    "adwin_run",
    "adwin_take",
    "adwin_unpack",
    "bernoulli_cusum_run_length",
    "bernoulli_cusum_threshold",
    "calibrated_arrays",
    "calibrated_grow",
    "calibrated_pack",
    "calibrated_packed_size",
    "calibrated_plan",
    "calibrated_push",
    "calibrated_reset",
    "calibrated_since",
    "calibrated_take",
    "calibrated_unpack",
    "chi_squared",
    "cusum_run_length",
    "cusum_threshold",
    "detector_names",
    "domain_classifier",
    "energy_test",
    "ewma_limit",
    "ewma_run_length",
    "find_detector",
    "g_test",
    "get_f64",
    "get_u32",
    "hellinger",
    "jensen_shannon",
    "kernel",
    "kolmogorov_smirnov",
    "page_hinkley_arrays",
    "page_hinkley_direction",
    "page_hinkley_grow",
    "page_hinkley_pack",
    "page_hinkley_packed_size",
    "page_hinkley_push",
    "page_hinkley_reset",
    "page_hinkley_run",
    "page_hinkley_since",
    "page_hinkley_take",
    "page_hinkley_unpack",
    "projection_test",
    "psi",
    "put_f64",
    "put_u32",
    "samples_in",
    "usable",
    "wasserstein",
]

_HOME = {
    "Calibrated": "calibrated",
    "CalibratedBank": "calibrated_bank",
    "calibrated_push": "calibrated_kernels",
    "calibrated_reset": "calibrated_kernels",
    "calibrated_since": "calibrated_kernels",
    "CalibratedArrays": "calibrated_layout",
    "calibrated_arrays": "calibrated_layout",
    "calibrated_grow": "calibrated_layout",
    "calibrated_plan": "calibrated_layout",
    "calibrated_take": "calibrated_layout",
    "calibrated_pack": "calibrated_packing",
    "calibrated_packed_size": "calibrated_packing",
    "calibrated_unpack": "calibrated_packing",
    "bernoulli_cusum_run_length": "run_length",
    "bernoulli_cusum_threshold": "run_length",
    "cusum_run_length": "run_length",
    "cusum_threshold": "run_length",
    "ewma_limit": "run_length",
    "ewma_run_length": "run_length",
    "samples_in": "run_length",
    "LOND": "discoveries",
    "LORD": "discoveries",
    "SAFFRON": "discoveries",
    "DiscoveryControl": "discoveries",
    "AlarmBudget": "budget",
    "Spending": "budget",
    "Comparison": "comparisons",
    "chi_squared": "comparisons",
    "g_test": "comparisons",
    "hellinger": "comparisons",
    "jensen_shannon": "comparisons",
    "kolmogorov_smirnov": "comparisons",
    "psi": "comparisons",
    "wasserstein": "comparisons",
    "CategoryReference": "reference",
    "Counts": "reference",
    "NumericReference": "reference",
    "QuantileSketch": "sketch",
    "ProjectionDrift": "multivariate",
    "Reservoir": "multivariate",
    "RowComparison": "multivariate",
    "domain_classifier": "multivariate",
    "energy_test": "multivariate",
    "projection_test": "multivariate",
    "CUSUM": "cusum",
    "CUSUMBank": "cusum",
    "EWMA": "ewma",
    "EWMABank": "ewma",
    "Shewhart": "shewhart",
    "ShewhartBank": "shewhart",
    "DDM": "ddm",
    "DDMBank": "ddm",
    "EDDM": "eddm",
    "EDDMBank": "eddm",
    "HDDMA": "hddm",
    "HDDMABank": "hddm",
    "HDDMW": "hddm",
    "HDDMWBank": "hddm",
    "FHDDM": "fhddm",
    "FHDDMBank": "fhddm",
    "STEPD": "stepd",
    "STEPDBank": "stepd",
    "KSWIN": "kswin",
    "ADWIN": "adwin",
    "ADWINBank": "adwin_bank",
    "ADWIN_LEVELS": "adwin_kernels",
    "LARGEST": "values",
    "AdwinArrays": "adwin_kernels",
    "adwin_arrays": "adwin_kernels",
    "adwin_estimation": "adwin_kernels",
    "adwin_grow": "adwin_kernels",
    "adwin_push": "adwin_kernels",
    "adwin_reset": "adwin_kernels",
    "adwin_run": "adwin_kernels",
    "adwin_take": "adwin_kernels",
    "usable": "values",
    "adwin_pack": "adwin_packing",
    "adwin_packed_size": "adwin_packing",
    "adwin_unpack": "adwin_packing",
    "kernel": "compiled",
    "Detector": "detector",
    "get_f64": "packing",
    "get_u32": "packing",
    "put_f64": "packing",
    "put_u32": "packing",
    "PageHinkley": "page_hinkley",
    "PageHinkleyBank": "page_hinkley_bank",
    "BOTH": "page_hinkley_kernels",
    "DOWN": "page_hinkley_kernels",
    "UP": "page_hinkley_kernels",
    "PageHinkleyArrays": "page_hinkley_kernels",
    "page_hinkley_arrays": "page_hinkley_kernels",
    "page_hinkley_direction": "page_hinkley_kernels",
    "page_hinkley_grow": "page_hinkley_kernels",
    "page_hinkley_pack": "page_hinkley_kernels",
    "page_hinkley_packed_size": "page_hinkley_kernels",
    "page_hinkley_push": "page_hinkley_kernels",
    "page_hinkley_reset": "page_hinkley_kernels",
    "page_hinkley_run": "page_hinkley_kernels",
    "page_hinkley_since": "page_hinkley_kernels",
    "page_hinkley_take": "page_hinkley_kernels",
    "page_hinkley_unpack": "page_hinkley_kernels",
    "detector_names": "registry",
    "find_detector": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
