"""Emissions into findings: figures from accumulators, in words and with their reasons where they have no value."""

import math

import numpy as np

from mlmm.events import Acked, CommandState, Drift, Report, Subject, encode_json
from mlmm.runtime.durations import window_name
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.settings import ServingSettings

from . import _fields as f
from ._models import Model, Models
from ._series import ADWIN_PARAMS, PAGE_HINKLEY_MIN

__all__ = ["Writer", "command_state"]


def command_state(record: Record, acked: Acked) -> Output:
    """What a deployer says to a command, passed on as a finding."""
    state = CommandState(
        command_id=acked.command_id,
        state=acked.state,
        log_time=record.log_time,
        target=acked.target,
        attempt=acked.attempt,
        reason=acked.reason,
        checkpoint=acked.checkpoint,
    )
    return Output(
        topic="findings",
        key=record.key,
        type="mlmm.command.state.v1",
        id=f"command:{acked.command_id}:{acked.state}",
        time=record.log_time,
        value=encode_json(state),
        offset=record.offset,
    )


class Writer:
    """Makes outputs of emissions.

    Parameters
    ----------
    settings : ServingSettings
        Window sizes and the detectors' parameters.
    models : Models
        Gives names to slots.
    sizes : numpy.ndarray
        int64 window sizes in microseconds.
    block : int
        Pairs in a tenth of the window over the last pairs.
    """

    def __init__(self, settings: ServingSettings, models: Models, sizes: np.ndarray, block: int) -> None:
        self._models = models
        self._sizes = [int(size) for size in sizes]
        self._windows = [window_name(size / 1e6) for size in self._sizes]
        self._last = f"last {10 * block}"
        detectors = settings.detectors
        common = {"baseline": float(detectors.baseline), "clip": detectors.clip}
        self._params = {
            f.ADWIN_ALARM: ("adwin", {"delta": detectors.adwin_delta, **ADWIN_PARAMS, **common}),
            f.PAGE_HINKLEY_ALARM: (
                "page_hinkley",
                {
                    "delta": detectors.page_hinkley_delta,
                    "threshold": detectors.page_hinkley_threshold,
                    "alpha": 1.0,
                    "min_instances": float(PAGE_HINKLEY_MIN),
                    **common,
                },
            ),
        }

    def write(self, ints: list[int], floats: list[float], offset: int) -> Output:
        """Make the output of one emission that a record at ``offset`` caused."""
        model = self._models.by_slot[ints[f.E_MODEL]]
        key = model.key.decode()
        event: Report | Drift
        if ints[f.E_KIND] in (f.DRIFT_ERROR, f.DRIFT_FEATURE):
            event, kind = self._drift(model, ints, floats), "mlmm.drift.v1"
            id_ = f"drift:{key}:{event.series}:{ints[f.E_EVER]}"
        else:
            event, kind = self._report(model, ints, floats), "mlmm.report.v1"
            # Several windows over the last pairs can start with one pair: those are told apart by their number.
            which = ints[f.E_SIZE] if ints[f.E_KIND] == f.REPORT_LAST else event.start
            id_ = f"report:{key}:{event.kind}:{event.window}:{which}:{event.revision}"
        return Output(
            topic="findings",
            key=model.key,
            type=kind,
            id=id_,
            time=event.log_time,
            value=encode_json(event),
            offset=offset,
        )

    def _drift(self, model: Model, ints: list[int], floats: list[float]) -> Drift:
        detector, params = self._params[int(floats[f.D_DETECTOR])]
        error = ints[f.E_KIND] == f.DRIFT_ERROR
        return Drift(
            subject=Subject(model=model.name),
            series="error" if error else f"feature:{model.series[ints[f.E_SIZE]]}",
            detector=detector,
            params=params,
            before=floats[f.D_BEFORE],
            after=floats[f.D_AFTER],
            observed=int(floats[f.D_OBSERVED]),
            began=int(floats[f.D_BEGAN]),
            event_time=ints[f.E_END],
            log_time=ints[f.E_LOG],
            history=tuple(floats[f.D_HISTORY : f.D_HISTORY + int(floats[f.D_BLOCKS])]),
            history_block=int(floats[f.D_BLOCK_SIZE]),
        )

    def _report(self, model: Model, ints: list[int], floats: list[float]) -> Report:
        last = ints[f.E_KIND] == f.REPORT_LAST
        service = ints[f.E_KIND] == f.REPORT_SERVICE
        counts = ints[f.E_FIGURES : f.E_FIGURES + f.ACCUMULATED]
        figures: dict[str, float] = {}
        undefined: dict[str, str] = {}
        if service:
            events = counts[f.A_PREDICTIONS] + counts[f.A_FAILURES]
            _service(counts, floats, self._sizes[ints[f.E_SIZE]] / 1e6, figures, undefined)
            figures["duplicates"] = float(ints[f.E_DUPLICATES])
        else:
            events = counts[f.A_CLASSES] + counts[f.A_NUMERIC]
            _performance(counts, floats, figures, undefined)
            figures["corrections"] = float(ints[f.E_DUPLICATES])
        if not last:
            figures["late"] = float(ints[f.E_LATE])
        for name in [name for name, figure in figures.items() if not math.isfinite(figure)]:
            del figures[name]
            undefined[name] = "not finite: values are too large"
        return Report(
            subject=Subject(model=model.name),
            kind="service" if service else "performance",
            window=self._last if last else self._windows[ints[f.E_SIZE]],
            start=counts[f.A_START],
            end=ints[f.E_END],
            log_time=ints[f.E_LOG],
            events=events,
            figures=figures,
            undefined=undefined,
            coverage=ints[f.E_JOINED] / ints[f.E_HELD] if ints[f.E_HELD] and not service else None,
        )


def _service(
    counts: list[int], floats: list[float], seconds: float, figures: dict[str, float], undefined: dict[str, str]
) -> None:
    predictions, failures, latencies = counts[f.A_PREDICTIONS], counts[f.A_FAILURES], counts[f.A_LATENCIES]
    figures["predictions"] = float(predictions)
    figures["failures"] = float(failures)
    figures["throughput"] = (predictions + failures) / seconds
    figures["error_rate"] = failures / (predictions + failures)
    if latencies:
        figures["latency_mean"] = floats[f.F_LATENCY_SUM] / latencies
        figures["latency_p50"] = floats[f.G_P50]
        figures["latency_p95"] = floats[f.G_P95]
        figures["latency_p99"] = floats[f.G_P99]
    else:
        undefined.update(
            dict.fromkeys(("latency_mean", "latency_p50", "latency_p95", "latency_p99"), "no latency was given")
        )
    if counts[f.A_BINARY_OUTPUTS]:
        figures["positive_rate"] = counts[f.A_POSITIVE_OUTPUTS] / counts[f.A_BINARY_OUTPUTS]
    if counts[f.A_NUMBERS]:
        figures["output_mean"] = floats[f.F_OUTPUT_SUM] / counts[f.A_NUMBERS]


def _performance(counts: list[int], floats: list[float], figures: dict[str, float], undefined: dict[str, str]) -> None:
    classes, numeric = counts[f.A_CLASSES], counts[f.A_NUMERIC]
    figures["pairs"] = float(classes + numeric)
    if classes:
        figures["accuracy"] = counts[f.A_CORRECT] / classes
        if counts[f.A_BINARY]:
            _binary(
                counts[f.A_TRUE_POSITIVE], counts[f.A_FALSE_POSITIVE], counts[f.A_FALSE_NEGATIVE], figures, undefined
            )
        else:
            undefined.update(dict.fromkeys(("precision", "recall", "f1"), "only for binary tasks"))
    if numeric:
        figures["mae"] = floats[f.F_ABSOLUTE] / numeric
        # What corrections took away can leave a rounding below zero.
        figures["rmse"] = math.sqrt(max(floats[f.F_SQUARED], 0.0) / numeric)
        figures["bias"] = floats[f.F_SIGNED] / numeric
    figures["label_lag_mean"] = floats[f.F_LAG] / (classes + numeric)


def _binary(tp: int, fp: int, fn: int, figures: dict[str, float], undefined: dict[str, str]) -> None:
    if tp + fp:
        figures["precision"] = tp / (tp + fp)
    else:
        undefined["precision"] = "no positive outputs"
    if tp + fn:
        figures["recall"] = tp / (tp + fn)
    else:
        undefined["recall"] = "no positive labels"
    if tp + fp + fn:
        figures["f1"] = 2 * tp / (2 * tp + fp + fn)
    else:
        undefined["f1"] = "neither positive outputs nor positive labels"
