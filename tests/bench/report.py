"""The tables: medians over the rounds, printed as Markdown so that they can be quoted as they are."""

import statistics
from collections.abc import Sequence

from tests.bench.load import Delays, Sample

Measured = dict[str, list[Sample]]
"""Contender -> one sample a round, the rounds in the same order for all."""


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(headers) + " |", "| --- |" + " ---: |" * (len(headers) - 1)]
    lines.extend("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(lines)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def added(measured: Measured, name: str, what: str) -> float:
    """Median over the rounds of what a contender adds to the direct way, in milliseconds."""
    pairs = zip(measured[name], measured["direct"], strict=True)
    return _median([getattr(sample, what) - getattr(direct, what) for sample, direct in pairs])


def cpu_ratio(measured: Measured, name: str, baseline: str = "forwarder") -> float | None:
    """Median over the rounds of CPU a request against the baseline's in the same round; None if one was not measured."""
    if name not in measured or baseline not in measured:
        return None
    return _median([sample.cpu / base.cpu for sample, base in zip(measured[name], measured[baseline], strict=True) if base.cpu])


def load_table(by_connections: dict[int, Measured], streams: bool) -> str:
    """CPU, rate and added latency of every contender at every number of connections."""
    unit = "stream" if streams else "request"
    headers = ["", "connections", f"CPU µs/{unit}", "x forwarder", f"{unit}s/s", *(["added first byte p50 ms"] if streams else [])]
    headers += ["added p50 ms", "added p99 ms"]
    rows = []
    for connections, measured in by_connections.items():
        for name, samples in measured.items():
            rate = f"{_median([sample.rate for sample in samples]):,.0f}"
            if name == "direct":
                absolute = [_median([getattr(sample, what) for sample in samples]) for what in ("first_p50", "p50", "p99")]
                shown = [f"({value:.2f})" for value in absolute[0 if streams else 1 :]]
                rows.append([name, str(connections), "", "", rate, *shown])
                continue
            ratio = cpu_ratio(measured, name)
            shown = [f"{added(measured, name, what):+.2f}" for what in (["first_p50"] if streams else []) + ["p50", "p99"]]
            cpu = _median([sample.cpu for sample in samples])
            rows.append([name, str(connections), f"{cpu:,.0f}", f"{ratio:.2f}" if ratio else "", rate, *shown])
    return table(headers, rows)


def translation_table(json: Measured, bursts: Measured, chunks: int) -> str:
    """What translating costs, against requests of the same kind that pass as they come; of streams for each of their ``chunks``."""
    rows = []
    for name in json:
        cells = [name]
        for measured, share in ((json, 1), (bursts, chunks)):
            ratio = cpu_ratio(measured, name, "dwctl")
            cells += [f"{_median([sample.cpu for sample in measured[name]]) / share:,.1f}", f"{ratio:.2f}" if ratio else ""]
        rows.append(cells)
    return table(["", "CPU µs/request, JSON", "x chat -> chat", "CPU µs/chunk, SSE", "x chat -> chat"], rows)


def delay_table(measured: dict[str, Delays]) -> str:
    """Delay of every chunk of the paced streams."""
    direct = measured["direct"]
    rows = [
        [
            name,
            f"{delays.chunks:,}",
            *(f"{value:.2f}" for value in (delays.p50, delays.p99, delays.p999, delays.worst)),
            "" if name == "direct" else f"{delays.p999 - direct.p999:+.2f}",
            "" if name == "direct" else f"{delays.cpu:.1f}",
            "" if name == "direct" else f"{delays.core:.0%}",
        ]
        for name, delays in measured.items()
    ]
    headers = ["", "chunks", "p50 ms", "p99 ms", "p99.9 ms", "worst ms", "added p99.9 ms", "CPU µs/chunk", "of a core"]
    return table(headers, rows)


MemoryPoints = list[tuple[int, float, float]]
"""Requests so far, RSS and PSS in MB."""


def growth(points: MemoryPoints) -> float | None:
    """Change of RSS, in percent, between the first point of 200,000 requests or more and the last; None if they are one."""
    later = [rss for requests, rss, _ in points if requests >= 200_000]
    return (later[-1] / later[0] - 1) * 100 if len(later) > 1 else None


def memory_table(measured: dict[str, MemoryPoints]) -> str:
    """RSS and PSS after so many requests."""
    rows = [[name, f"{requests:,}", f"{rss:.1f}", f"{pss:.1f}"] for name, points in measured.items() for requests, rss, pss in points]
    return table(["", "requests so far", "RSS MB", "PSS MB"], rows)


def verdicts(
    json_loads: dict[int, Measured], streams: dict[int, Measured], delays: dict[str, Delays], memory: MemoryPoints, translated: Measured
) -> str:
    """Each target, what was measured, and whether it is met."""
    rows = []

    def judge(what: str, value: float | None, limit: float, shown: str) -> None:
        if value is not None:
            rows.append([what, shown.format(value), shown.format(limit), "yes" if value <= limit else "NO"])

    for title, loads in (("JSON", json_loads), ("SSE", streams)):
        for connections, measured in loads.items():
            judge(f"CPU against the bare forwarder, {title}, {connections} connections", cpu_ratio(measured, "dwctl"), 1.6, "{:.2f}x")
    if "dwctl" in delays:
        judge("added delay of a chunk at 400 streams, p99.9", delays["dwctl"].p999 - delays["direct"].p999, 250, "{:.1f} ms")
    for name in translated:
        if name != "dwctl":
            judge(f"CPU against chat -> chat, JSON, {name}", cpu_ratio(translated, name, "dwctl"), 2, "{:.2f}x")
    if memory:
        judge("RSS of an idle server", memory[0][1], 100, "{:.1f} MB")
        judge("growth of RSS from 200,000 to 1,000,000 requests", growth(memory), 5, "{:+.1f} %")
    return table(["target", "measured", "at most", "met"], rows)
