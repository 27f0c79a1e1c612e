"""`mlmm rules check`: each thing that can be wrong with a rule, in words."""

import msgspec
import pytest

from mlmm.alerting import check_rules
from mlmm.runtime.settings import DetectorSettings, Order, ServingSettings, SigningKey, SmtpSettings
from mlmm.runtime.settings.secret import Secret
from tests.alerting.stories import STOP, accuracy_rule, falling_rule, rule, settings

KEY = SigningKey(id="k1", secret=Secret("a secret of sixteen"), active=True)


def said(*rules, **sections) -> list[str]:
    given = msgspec.structs.replace(settings(*rules, keys=(KEY,)), smtp=SmtpSettings(host="mail"), **sections)
    return [f"{note.level}: {note.text}" for note in check_rules(given)]


def test_good_rules_have_nothing_to_be_said_of_them():
    good = accuracy_rule(min_count=100, hold="3 of 5")
    assert said(good, falling_rule(), rule(name="drift", model="*", drift="feature:*", window="1m")) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"model": "*", "metric": "acuracy", "below": 0.9},
            "problem: no report holds a figure 'acuracy'; did you mean 'accuracy'?",
        ),
        ({"model": "*", "metric": "accuracy", "below": 0.0}, "problem: it can never hold"),
        ({"model": "*", "metric": "accuracy", "above": 1.0}, "problem: it can never hold"),
        ({"model": "*", "metric": "accuracy", "outside": (0.0, 1.0)}, "problem: it can never hold"),
        ({"model": "*", "metric": "f1", "drops_by": 1.5}, "problem: it can never hold"),
        ({"model": "*", "metric": "accuracy", "below": 1.5}, "problem: it always holds"),
        ({"model": "*", "metric": "accuracy", "drops_by": 0.1}, "note: a change is judged once 3 windows (30m)"),
        ({"model": "*", "metric": "accuracy", "below": 0.9}, "note: min_count is 0"),
        ({"model": "*", "drift": "amount"}, "problem: no detector watches 'amount'"),
        ({"model": "*", "drift": "error"}, "note: window is not used"),
        ({"model": "*", "no_data": "90s"}, "problem: no_data = 90s is shorter"),
        ({"run": "*", "no_data": "90s"}, "note: a run is silent when it misses 3 heartbeats"),
        ({"run": "*", "trigger": "falling", "notify": ()}, "note: it tells nobody"),
        ({"model": "*", "metric": "mae", "above": 3.0, "command": STOP}, "note: a single window stops"),
    ],
)
def test_each_doubt_is_said(fields, expected):
    assert any(text.startswith(expected) for text in said(rule(**fields)))


def test_drift_rules_need_a_detector_on_their_series():
    none = ServingSettings(detectors=DetectorSettings(adwin=False, page_hinkley=False))
    assert any("no detector runs" in text for text in said(rule(model="*", drift="error"), serving=none))
    errors = ServingSettings(detectors=DetectorSettings(series=("error",)))
    assert any(
        "no detector watches 'feature:*'" in text for text in said(rule(model="*", drift="feature:*"), serving=errors)
    )


def test_no_rules_an_unsigned_command_and_the_default_mail_server_are_noted():
    assert check_rules(settings())[0].text.startswith("there are no rules")
    texts = [note.text for note in check_rules(settings(falling_rule(command=Order(kind="stop"))))]
    assert any("not signed" in text for text in texts)
    assert any("localhost:25" in text for text in texts)
