"""Detectors are found by name, ours and those that others install."""

import doctest
import importlib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import mlmm.detectors
from mlmm.detectors import ADWIN, PageHinkley, detector_names, find_detector, registry


def install(monkeypatch, **entries):
    points = [EntryPoint(name, value, registry.GROUP) for name, values in entries.items() for value in values]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])


def test_ours_are_there():
    assert {"adwin", "calibrated", "page_hinkley"} <= set(detector_names())
    assert find_detector("adwin") is ADWIN
    assert find_detector("page_hinkley") is PageHinkley


def test_an_installed_one_is_found(monkeypatch):
    install(monkeypatch, mine=["mlmm.detectors:PageHinkley"])
    assert "mine" in detector_names()
    assert find_detector("mine") is PageHinkley


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(ValueError, match=r"no detector 'adwine'.*adwin, calibrated, cusum, .*page_hinkley"):
        find_detector("adwine")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"adwin": ["x:Y"]}, "is ours"),
        ({"mine": ["x:Y", "z:W"]}, "declared by x:Y and z:W"),
        ({"mine": ["mlmm.detectors:usable"]}, "not a class"),
        ({"mine": ["collections:OrderedDict"]}, "lacks drift_detected"),
    ],
)
def test_a_wrong_entry_point_is_explained(monkeypatch, entries, message):
    install(monkeypatch, **entries)
    with pytest.raises(ValueError, match=message):
        find_detector(next(iter(entries)))


def test_the_facade_offers_what_it_says():
    assert set(mlmm.detectors._HOME) == set(mlmm.detectors.__all__) == set(dir(mlmm.detectors))
    for name in mlmm.detectors.__all__:
        assert getattr(mlmm.detectors, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mlmm.detectors.nothing


def test_the_examples_in_docstrings_are_true():
    names = [file.stem for file in Path(mlmm.detectors.__file__).parent.glob("*.py") if file.stem != "__init__"]
    results = [doctest.testmod(importlib.import_module(f"mlmm.detectors.{name}")) for name in names]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) >= 15
