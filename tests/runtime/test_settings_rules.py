"""Rules: what can't work is refused before it watches nothing."""

import pytest

from mlmm.runtime.settings import Notifier, Rule, Settings, SettingsError, load

GOOD = {"name": "r", "model": "fraud*", "metric": "accuracy", "below": 0.9}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"run": "*"}, "exactly one of model and run"),
        ({"model": None}, "exactly one of model and run"),
        ({"metric": None, "below": None}, "exactly one of metric, drift, trigger, no_data; found none"),
        ({"drift": "error"}, "exactly one of metric, drift, trigger, no_data; found metric, drift"),
        ({"below": None}, "exactly one bound of below, above, drops_by, rises_by, outside; found none"),
        ({"above": 1.0}, "found below, above"),
        ({"metric": None, "drift": "error"}, "below: a bound is for rules with a metric"),
        ({"below": None, "outside": (2.0, 1.0)}, "outside: [2.0, 1.0]: expected [low, high]"),
        ({"below": None, "drops_by": -0.1}, "drops_by: -0.1: expected float > 0"),
        ({"model": None, "run": "*"}, "metric: is for rules with a model; a run's figures are judged by triggers"),
        ({"metric": None, "below": None, "trigger": "falling"}, "trigger: is for rules with a run"),
        ({"metric": None, "below": None, "trigger": "fallin"}, "did you mean 'falling'?"),
        ({"hold": "3 of 2"}, "hold: '3 of 2': expected \"k of n\""),
        ({"hold": "0 of 2"}, "hold: '0 of 2'"),
        ({"hold": "often"}, "hold: 'often'"),
        ({"window": "soon"}, "window: 'soon': expected a duration"),
        ({"window": "10ms"}, "window: 0.01: expected float >= 1"),
        ({"severity": "fatal"}, "severity: 'fatal': expected one of"),
        ({"name": ""}, "name: '': expected str of length >= 1"),
        ({"metric": None, "below": None, "no_data": "5m", "hold": "2 of 3"}, "hold: is for rules with a metric"),
    ],
)
def test_a_rule_that_can_not_work_says_why(change, told):
    with pytest.raises(SettingsError) as caught:
        Rule(**{**GOOD, **change})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "rule",
    [
        GOOD,
        {"name": "r", "model": "m", "drift": "feature:*", "command": {"kind": "retrain"}},
        {"name": "r", "model": "m", "no_data": "10m"},
        {"name": "r", "run": "churn-*", "trigger": "*", "command": {"kind": "stop"}},
        {"name": "r", "run": "churn-*", "no_data": "10m"},
        {**GOOD, "below": None, "outside": [0.1, 0.2], "hold": "3 of 5", "window": "1h"},
    ],
)
def test_a_rule_that_can_work_is_taken(rule):
    made = load(env={}, arguments={"rules": [rule]}).rules[0]
    assert made.held in ((1, 1), (3, 5))


def test_hold_is_k_of_n():
    assert Rule(**GOOD, hold=" 3 of 5 ").held == (3, 5)


def test_names_are_unique_and_notifiers_exist():
    rules = [Rule(**GOOD), Rule(**GOOD, notify=["on_cal"])]
    notifiers = {"on_call": Notifier(kind="email", to=["a@b"])}
    with pytest.raises(SettingsError) as caught:
        Settings(rules=rules, notifiers=notifiers)
    assert "rules[1].name: 'r' is the name of rules[0] too" in str(caught.value)
    assert "rules[1].notify: 'on_cal': there is no [notifiers.on_cal]; there are: on_call (did you mean" in str(
        caught.value
    )


def test_a_run_is_told_to_stop_and_nothing_else():
    with pytest.raises(SettingsError, match=r"rules\[0\].command.kind: \"retrain\": a run can only be told to stop"):
        load(env={}, arguments={"rules": [{"name": "r", "run": "*", "trigger": "*", "command": {"kind": "retrain"}}]})
