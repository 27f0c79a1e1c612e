"""Dead letters on the screen, and sending them again: ``mlmm dead-letters``."""

from mlmm.console.letters.reading import Chosen, Letter, Letters, full_record, read_letters
from mlmm.console.letters.retrying import Outcome, retry
from mlmm.console.letters.showing import as_json, as_json_record, as_row, describe, moment, summary

__all__ = [
    "Chosen",
    "Letter",
    "Letters",
    "Outcome",
    "as_json",
    "as_json_record",
    "as_row",
    "describe",
    "full_record",
    "moment",
    "read_letters",
    "retry",
    "summary",
]
