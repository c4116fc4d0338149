"""What 8 to 1,024 accelerators would see of a measurement: computed from stated assumptions, nothing measured."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measuring import Report, arguments
from benchmarks.scale.exchange import ring, ring_seconds, slots, two_sums

WORLDS = (8, 64, 256, 1_024)
# Bytes per second that one accelerator sends, and seconds of a step of the ring.
LINKS = {
    "NVLink, 450 GB/s": (450e9, 3e-6),
    "InfiniBand NDR, 50 GB/s": (50e9, 5e-6),
    "Ethernet, 12.5 GB/s": (12.5e9, 20e-6),
}
SLOWEST = "Ethernet, 12.5 GB/s"
# Floating-point operations per second that a forward pass sustains, and that float32 products do.
FORWARD, PRODUCTS = 200e12, 30e12
HIDDEN = 0.01


@dataclass(frozen=True)
class Case:
    """A measurement: classes, dimensions, samples, operations of a sample's forward pass, parameters of the network."""

    classes: int
    features: int
    samples: int
    forward: float
    parameters: float


CASES = {
    "ImageNet, ResNet50": Case(1_000, 2_048, 1_281_167, 8.2e9, 25.6e6),
    "ImageNet, ViT-L/16": Case(1_000, 1_024, 1_281_167, 123e9, 304e6),
    "vocabulary of a 7B language model": Case(50_000, 4_096, 10_000_000, 14e9, 7e9),
}


def main() -> None:
    options = arguments(__doc__).parse_args()
    report = Report("Many accelerators, on paper", "python -m benchmarks.scale.on_paper", threads="nothing is timed")
    report.say(
        "Nothing on this page was measured. Assumptions: an accelerator forwards at "
        f"{FORWARD / 1e12:g} TFLOP/s and multiplies float32 at {PRODUCTS / 1e12:g}; a collective is a ring, in which "
        "each of p ranks sends 2 (p - 1) / p of the buffer at the speed of its link, plus a latency for each of "
        "2 (p - 1) steps ("
        + "; ".join(f"{name}: {latency * 1e6:g} microseconds" for name, (_, latency) in LINKS.items())
        + "). Libraries use trees where the latencies of a ring would dominate, so those columns are upper bounds."
    )
    report.say(
        "An update exchanges nothing: every rank keeps moments of its own samples, and a measurement reduces once at "
        "its end, so that training waits only where it asks for a number. For comparison, data-parallel training sums "
        "4 bytes for every parameter at every step."
    )
    report.table(["case", "K", "d", "bytes per update", "gradients per step, MB"], [_traffic(name) for name in CASES])
    report.say(
        "Megabytes of the buffers of one measurement, and seconds of the reduction. 'Two sums' is "
        "8 [2 K (d + 1) + d (d + 1) / 2] + 56 bytes for any p, first the means and then sums about them, which is what "
        "`ClassMoments.all_reduce` does; 'slots' is 8 [p K (d + 1) + K + d (d + 1) / 2] + 56 bytes, one sum in which "
        "every rank has a place for its own means."
    )
    report.table(["case", "p", "scheme", "buffer, MB", "sent per rank, MB", *LINKS], list(_reductions()))
    report.say(
        f"Beside the forward pass, over {SLOWEST} with two sums: seconds on p accelerators of the forward pass over "
        "all samples, of the float32 products of the updates (n d^2 operations with half the square left out), and of "
        f"the reduction; the reduction as a share of the forward pass; and the samples in all from which it stays "
        f"below {HIDDEN:.0%}, which is when it hides."
    )
    columns = ["case", "p", "forward, s", "updates, s", "reduction, s", "share", "hides from, samples"]
    report.table(columns, list(_hidden()))
    report.finish("on_paper", options)


def _traffic(name: str) -> tuple[object, ...]:
    case = CASES[name]
    return name, case.classes, case.features, 0, 4 * case.parameters / 1e6


def _reductions() -> list[tuple[object, ...]]:
    lines = []
    for name, case in CASES.items():
        for world in WORLDS:
            for scheme, buffer in (
                ("slots", slots(world, case.classes, case.features)),
                ("two sums", two_sums(case.classes, case.features)),
            ):
                seconds = (ring_seconds(buffer, world, bandwidth=b, latency=wait) for b, wait in LINKS.values())
                lines.append((name, world, scheme, buffer / 1e6, ring(buffer, world) / 1e6, *seconds))
    return lines


def _hidden() -> list[tuple[object, ...]]:
    bandwidth, latency = LINKS[SLOWEST]
    lines = []
    for name, case in CASES.items():
        for world in WORLDS:
            forward = case.samples * case.forward / (world * FORWARD)
            updates = case.samples * case.features**2 / (world * PRODUCTS)
            buffer = two_sums(case.classes, case.features)
            reduction = ring_seconds(buffer, world, bandwidth=bandwidth, latency=latency)
            share = reduction / forward
            lines.append((name, world, forward, updates, reduction, share, round(case.samples * share / HIDDEN)))
    return lines


if __name__ == "__main__":
    main()
