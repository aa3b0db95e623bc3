"""Whether a measurement can be trusted: the generator proves itself before the run, and is watched in it.

Limits, and where they come from:
 - TTFT right to 2 ms and ITL to 0.2 ms at the median against the deterministic server's own times: one
   per cent of the fastest answers worth measuring (200 ms, 20 ms).
 - CPU of one generator process under 70 %: above that an event loop queues, and latencies are its own
   (measured 2026-11-23 with 600 streams on one core: right at 54 %).
 - Loop lag and dispatch delay may be 5 ms, or a tenth of the median they would spoil (TPOT, TTFT).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import Metrics
from .record import Health, Recording, RequestRecord

if TYPE_CHECKING:
    from .client import StreamingClient

TTFT_ERROR_MS = 2.0
ITL_ERROR_MS = 0.2
CPU_LIMIT = 0.70
LAG_MS = 5.0
LAG_SHARE = 0.1
# Share of requests whose counts may differ from what was asked, and by how much.
MISCOUNTED = 0.01
TOKENS_OFF = 0.01
APPROXIMATE_OFF = 0.35
# The cache may hold this much more of the prompts than the test itself repeats (whole blocks of 16
# tokens and a chat template's opening are always shared).
CACHE_SHARE = 0.05

_STREAMS = 20
_TOKENS = 60


@dataclass(frozen=True)
class Calibration:
    """The client against a server whose times are known. Errors are of the medians."""

    ttft_error_ms: float
    itl_error_ms: float
    cpu_us_per_event: float
    events_per_second: float
    """What was sent; the process could take CPU_LIMIT / cpu_us_per_event."""

    @property
    def ok(self) -> bool:
        return abs(self.ttft_error_ms) <= TTFT_ERROR_MS and abs(self.itl_error_ms) <= ITL_ERROR_MS


def calibrate(streams: int = _STREAMS, tokens: int = _TOKENS, rounds: int = 3) -> Calibration:
    """Measure the deterministic server with the real client: a second a round.

    Whether this generator can be exact is asked, so a round that something else disturbed is done
    again; whether it stays exact is watched during the run.
    """
    from .client import StreamingClient
    from .deterministic import deterministic_server

    with deterministic_server("--ttft-ms", "50", "--itl-ms", "10") as url:
        client = StreamingClient(url, None, timeout=30.0)
        _together(client, streams, 4)  # opens the connections, which a kept one does not pay for
        found = _round(client, streams, tokens)
        for _ in range(rounds - 1):
            if found.ok:
                break
            found = _round(client, streams, tokens)
        client.close()
    return found


def _round(client: StreamingClient, streams: int, tokens: int) -> Calibration:
    cpu, began = time.process_time(), time.perf_counter()
    records = _together(client, streams, tokens)
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    events = sum(len(record.itls) + 1 for record in records)
    return Calibration(
        *errors_against_truth(records),
        cpu_us_per_event=cpu / max(events, 1) * 1e6,
        events_per_second=events / seconds,
    )


def errors_against_truth(records: Iterable[RequestRecord]) -> tuple[float, float]:
    """Medians of what the client measured less what the server did, TTFT and ITL, in milliseconds."""
    ttfts, itls, true_itls = [], [], []
    for record in records:
        if record.truth is None or record.ttft is None:
            continue
        sent = record.truth["sent"]
        ttfts.append(record.ttft - (sent[0] - record.truth["received"]))
        itls += record.itls
        true_itls += np.diff(sent).tolist()
    if not itls:
        return float("inf"), float("inf")
    itl_error = statistics.median(itls) - statistics.median(true_itls)
    return statistics.median(ttfts) * 1000, itl_error * 1000


def _together(client: StreamingClient, streams: int, tokens: int) -> list[RequestRecord]:
    import gevent

    from .client import Call

    body = {
        "messages": [{"role": "user", "content": "How long does this take?"}],
        "max_completion_tokens": tokens,
        "stream": True,
    }

    def one(place: int) -> RequestRecord:
        gevent.sleep(0.01 * place / streams)  # spread over one ITL, as real streams are
        return client.send(Call("calibrate", "/v1/chat/completions", "deterministic", dict(body)))

    jobs = [gevent.spawn(one, place) for place in range(streams)]
    return [job.get() for job in jobs]


@dataclass(frozen=True)
class Validity:
    """`reasons` why the measurement cannot be trusted; `facts` that it was judged by."""

    reasons: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return not self.reasons


def judge(
    recording: Recording,
    counted: Sequence[RequestRecord],
    metrics: Metrics,
    exact_lengths: bool,
    cache_hit_share: float | None,
    open_loop_rate: float | None = None,
) -> Validity:
    """Judge a whole run by its counted requests. `cache_hit_share`: of all prompt tokens, by the engines."""
    calibrations = [note["calibration"] for note in recording.notes if "calibration" in note]
    reasons, facts = [], {"calibrations": calibrations, "processes": recording.processes}
    for found, fact in (
        _completeness(recording, metrics),
        _calibrated(calibrations),
        _generator(_during(recording.health, counted), metrics),
        _dispatch(metrics, open_loop_rate),
        _counts(counted, exact_lengths),
        _cache(counted, cache_hit_share),
    ):
        reasons += found
        facts |= fact
    return Validity(tuple(reasons), facts)


Judged = tuple[list[str], dict[str, Any]]


def _completeness(recording: Recording, metrics: Metrics) -> Judged:
    reasons = [str(note["aborted"]) for note in recording.notes if "aborted" in note]
    if recording.torn:
        reasons.append(f"{recording.torn} lines of the records are damaged: requests are missing")
    if not metrics.completed:
        what = ", ".join(f"{count} {kind}" for kind, count in metrics.error_kinds.items())
        reasons.append(f"no request succeeded ({what or 'none was sent'})")
    return list(dict.fromkeys(reasons)), {}


def _calibrated(calibrations: Sequence[Mapping[str, Any]]) -> Judged:
    reasons = []
    for found in (Calibration(**each) for each in calibrations):
        if not found.ok:
            reasons.append(
                f"the generator is not exact on this machine now: against a server of known latency "
                f"TTFT is off by {found.ttft_error_ms:.2f} ms (limit {TTFT_ERROR_MS}) and ITL by "
                f"{found.itl_error_ms:.2f} ms (limit {ITL_ERROR_MS}); free some CPU"
            )
    return reasons, {}


def _during(health: Sequence[Health], counted: Sequence[RequestRecord]) -> list[Health]:
    if not counted:
        return list(health)
    begin, end = counted[0].started, max(record.ended for record in counted)
    return [sample for sample in health if begin <= sample.at <= end + 1]


def _generator(health: Sequence[Health], metrics: Metrics) -> Judged:
    if not health:
        return [], {}
    cpu = float(np.percentile([sample.cpu for sample in health], 90))
    lag = float(np.percentile([sample.lag_median for sample in health], 99)) * 1000
    worst = max(sample.lag for sample in health) * 1000
    limit = max(LAG_MS, LAG_SHARE * metrics.tpot.median)
    reasons = []
    if cpu > CPU_LIMIT:
        reasons.append(
            f"the generator used {cpu:.0%} of a core (limit {CPU_LIMIT:.0%}): its own queue is in the "
            "latencies; run it with more --processes"
        )
    if lag > limit:
        reasons.append(
            f"the generator's event loop woke {lag:.1f} ms late (limit {limit:.1f} ms): the machine is "
            "too busy to measure on; use another one, or more --processes"
        )
    return reasons, {"cpu": cpu, "loop_lag_ms": lag, "worst_loop_lag_ms": worst}


def _dispatch(metrics: Metrics, wanted: float | None) -> Judged:
    if metrics.dispatch_delay is None:
        return [], {}
    delay = metrics.dispatch_delay.percentiles[99]
    limit = max(LAG_MS, LAG_SHARE * metrics.ttft.median)
    facts = {"dispatch_delay_p99_ms": delay, "wanted_rate": wanted}
    if delay <= limit:
        return [], facts
    return [
        f"requests left {delay:.1f} ms after they were due at the 99th percentile (limit {limit:.1f} ms): "
        "the rate asked for was not delivered"
    ], facts


def _counts(counted: Sequence[RequestRecord], exact: bool) -> Judged:
    reasons, facts = [], {"exact_lengths": exact}
    good = [record for record in counted if record.ok]
    wrong_input = _off(
        [(r.prompt_tokens, r.asked_input) for r in good], TOKENS_OFF if exact else APPROXIMATE_OFF
    )
    wrong_output = _off([(r.output_tokens, r.asked_output) for r in good], TOKENS_OFF)
    facts |= {"wrong_input_share": wrong_input, "wrong_output_share": wrong_output}
    if wrong_input > MISCOUNTED:
        reasons.append(
            f"{wrong_input:.0%} of the prompts were not as long as asked, by the server's own count"
        )
    if wrong_output > MISCOUNTED:
        reasons.append(
            f"{wrong_output:.0%} of the answers were not as long as asked: the server stops early "
            "(does it know ignore_eos?), so output figures are of another load"
        )
    return reasons, facts


def _off(counts: Iterable[tuple[int | None, int | None]], tolerance: float) -> float:
    """Share of those counted that differ by more than a token and the tolerance."""
    known = [(found, asked) for found, asked in counts if found is not None and asked is not None]
    if not known:
        return 0.0
    wrong = [abs(found - asked) > max(1, tolerance * asked) for found, asked in known]
    return sum(wrong) / len(wrong)


def _cache(counted: Sequence[RequestRecord], hit_share: float | None) -> Judged:
    """Prompts must hit only what the run itself repeats; another run's leftovers flatter TTFT."""
    good = [record for record in counted if record.ok and record.asked_input]
    asked = sum(record.asked_input or 0 for record in good)
    if not asked:
        return [], {}
    reusable = sum(record.reusable for record in good) / asked
    if any(record.cached_tokens is not None for record in good):
        # The server's word on each request is better than a counter of all; it keeps silent where it
        # found nothing.
        hit_share = sum(record.cached_tokens or 0 for record in good) / asked
    facts = {"reusable_share": reusable, "cache_hit_share": hit_share}
    if hit_share is None or hit_share <= reusable + CACHE_SHARE:
        return [], facts
    return [
        f"{hit_share:.0%} of the prompt tokens came from a cache, but this run repeats only "
        f"{reusable:.0%}: the prompts are not new to the server (same --salt as an earlier run?)"
    ], facts


def as_note(found: Calibration) -> dict[str, Any]:
    return asdict(found)
