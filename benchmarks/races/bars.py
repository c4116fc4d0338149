"""Every bar that the project set itself, and where in the results its figure stands."""

from __future__ import annotations

from benchmarks.races.bar import bar, elsewhere
from benchmarks.races.observed import (
    Observer,
    beyond,
    columns_quotient,
    largest,
    marked,
    minutes,
    quotient,
    share_found,
    smallest,
    total,
)
from benchmarks.reading import ResultFile

_WORKERS = tuple(f"{count} worker{'s' * (count > 1)}" for count in range(1, 5))

# Tables to be read as tables, hence not formatted: name, words, bar, result file, and where its figure stands.
MEASURING = (
    bar("moments.error", "NC1 in one pass against two in float64, relative error", "<=", 1e-6, "accuracy",
         largest(*_WORKERS)),
    bar("moments.update", "update beside the bare product H^T H, ratio", "<=", 1.5, "moments_update",
         largest("ratio", where={"mode": "full"})),
    bar("metrics.seconds", "all metrics at K = 1000, d = 2048 on two threads, seconds", "<=", 1.0, "metrics",
         largest("wall (s)", where={"threads": "2"})),
    bar("metrics.seconds.one", "all metrics at K = 1000, d = 2048 on one thread, seconds", "<=", 1.0, "metrics",
         largest("wall (s)", where={"threads": "1"}), "the bar names no number of threads"),
    bar("wide.4096", "NC1 at d = 4096, K = 10, seconds", "<=", 0.1, "wide_layers",
         largest("CPU (s)", where={"d": "4,096", "N": "*"})),
    bar("wide.65536", "NC1 at d = 65,536, seconds", "<=", 2.0, "wide_layers",
         largest("CPU (s)", where={"d": "65,536", "N": "*"})),
    bar("wide.memory", "NC1 at d = 65,536, MB", "<=", 200.0, "wide_layers",
         largest("memory (MB)", where={"d": "65,536"})),
    bar("vocabulary.memory", "moments of 50,000 classes in 4096 dimensions, GiB", "<=", 4.0, "vocabulary",
         largest("peak (GiB)")),
    bar("peer.few", "means and scatter at K = 10, times faster than neural-collapse", ">=", 1.0, "races",
         smallest("times faster", where={"K": "10", "batch": "*"})),
    bar("peer.thousand", "means and scatter at K = 1000, times faster", ">=", 4.0, "races",
         smallest("times faster", where={"K": "1,000", "batch": "*"})),
    bar("peer.many", "means and scatter at K = 10,000, times faster", ">=", 20.0, "races",
         smallest("times faster", where={"K": "10,000", "batch": "*"})),
    bar("peer.pairs", "metrics of pairs at K = 10,000, times faster", ">=", 10.0, "races",
         smallest("times faster", where={"metric": "CDNV*", "K": "10,000"})),
    bar("peer.nc2", "NC2 at K = 20,000, times faster", ">=", 30.0, "races",
         smallest("times faster", where={"metric": "NC2", "K": "20,000"})),
    bar("right", "cases in which tightframe is wrong where others are", "<=", 0.0, "right_or_wrong",
         marked("tightframe", "wrong")),
    bar("fashion.quick", "three experiments on Fashion-MNIST at preset quick on two cores, minutes", "<=", 20.0,
         "claims_quick", minutes(r"(\d+) min (\d+) s for all three")),
    elsewhere("demo", "make demo after the install on two cores, minutes", "<=", 3.0, "time make demo"),
    elsewhere("help", "tightframe --help, seconds", "<=", 0.5, "the tests check that it imports no torch"),
)  # fmt: skip

MODELS = (
    bar("certificate", "certificate of any point at K = 1000, d = 2048, n = 10, seconds", "<=", 10.0,
         "ufm_certificates", largest("certify (s)"), "the bar says: in seconds"),
    bar("certified", "K = 100, d = 128, n = 100 from a random start to a certified gap of 1e-8, seconds", "<=", 10.0,
         "ufm_certificates", largest("solve (s)", where={"loss": "*", "bias": "*"})),
    bar("certified.gap", "K = 100, d = 128, n = 100: the gap reached", "<=", 1e-8, "ufm_certificates",
         largest("largest gap")),
    bar("convex", "certified gap of both programs, convex and not, on unequal classes", "<=", 1e-8, "ufm_races",
         largest("gap", where={"solver": "tightframe, *"}), "their values then agree to it"),
)  # fmt: skip

LEVERS = (
    bar("sop.overhead", "SOP's overhead on a step of ResNet18, per cent", "<=", 3.0, "sop_step", largest("overhead")),
    bar("sop.published.dense", "SOP beside its published form, dense storage, times faster", ">=", 5.0, "sop_step",
         smallest("ratio", where={"storage": "dense"})),
    bar("sop.published.sparse", "SOP beside its published form, sparse storage, times faster", ">=", 5.0, "sop_step",
         smallest("ratio", where={"storage": "sparse"})),
    elsewhere("sop.memory", "SOP's numbers for 1.28M samples of 1000 classes, GiB", "<=", 1.0,
               "in the tests of the loss"),
    elsewhere("sop.accuracy", "digits with 40 % wrong labels, accuracy of SOP at the last epoch", ">=", 0.95,
               "claims R3 of label-noise at preset smoke"),
    elsewhere("sop.margin", "digits with 40 % wrong labels, points of SOP above tuned cross-entropy", ">=", 8.0,
               "claims R3 of label-noise at preset smoke"),
    elsewhere("sop.scores", "digits with 40 % wrong labels, AUC of the noise scores", ">=", 0.98,
               "claims R3 of label-noise at preset smoke"),
    elsewhere("sop.human", "CIFAR-10N, aggregate labels, accuracy of SOP+", ">=", 0.9561,
               "claims R3 of label-noise at preset human or paper"),
)  # fmt: skip

TRANSFER = (
    bar("tuning.scl", "an epoch of SCL with a cached trunk over a linear probe that runs the network", "<=", 1.3,
         "tuning", largest("/ probe", where={"method": "scl"}), "worst of the layers"),
    bar("tuning.scl.cached", "an epoch of SCL with a cached trunk over a linear probe on cached features", "<=", 1.3,
         "tuning",
         largest("/ cached probe", where={"method": "scl"}), "the stricter reading; such a probe is one product"),
    bar("scores.share", "transferability scores over the forward pass", "<=", 0.05, "transfer_scores",
         largest("scores/forward")),
    bar("scores.error", "scores against their published formulas, relative", "<=", 1e-6, "transfer_scores",
         largest("difference")),
)  # fmt: skip

_ORTHOGONAL, _GAUSSIAN, _OURS = "orthogonal*", "Gaussian*", "tightframe"


def _beside(peer: str, kind: str) -> Observer:
    return quotient(
        "CPU s", of={"dictionary": kind, "learner": _OURS}, over={"dictionary": kind, "learner": peer}, by=()
    )


DICTIONARIES = (
    bar("complete.exact", "orthogonal, n = 100, p = 20,000: l4 score", "<=", 1e-10, "dictionary_races",
         largest("l4 score", where={"dictionary": _ORTHOGONAL, "learner": _OURS})),
    bar("complete.exact.gaussian", "ill-conditioned Gaussian: largest error of an atom", "<=", 1e-5,
         "dictionary_races", largest("worst", where={"dictionary": _GAUSSIAN, "learner": _OURS}),
         "exact is read as an error below 1e-5"),
    *(
        bar(f"complete.{name}.{kind.lower().removesuffix('*')}", f"{kind[:-1]}: time over that of {peer}", "<=", most,
             "dictionary_races", _beside(pattern, kind), note)
        for kind in (_ORTHOGONAL, _GAUSSIAN)
        for name, peer, pattern, most, note in (
            ("fastica", "FastICA", "FastICA*", 1.0, "the faster of its two contrasts"),
            ("spams", "SPAMS", "SPAMS*", 0.25, ""),
            ("sklearn", "MiniBatchDictionaryLearning", "scikit-learn*", 0.01, "which gets ten passes"),
        )
    ),
    bar("complete.samples", "exact from p = 10 n on at density 0.1: share of seeds", ">=", 1.0, "dictionary_races",
         smallest("10 d", "20 d", "50 d", where={"dictionary": "*density 0.1"})),
    bar("overcomplete", "all m atoms for m / n up to 4, n = 32 and 64: share found", ">=", 1.0, "dictionary_races",
         share_found("found", "frame", where={"frame": ("d = 32,*", "d = 64,*")})),
)  # fmt: skip

_LONG = {"signal": "200", "p": ("40", "80"), "theta": "0.25", "loss": "huber"}

DECONVOLUTION = (
    bar("channels.exact", "multichannel, n = 200, theta = 0.25, p of 40 or more: share exact", ">=", 1.0,
         "deconvolution_races", smallest("exact", where=_LONG)),
    bar("channels.seconds", "multichannel, n = 200, p of 40 or more: CPU seconds", "<=", 0.2,
         "deconvolution_races", largest("CPU s", where=_LONG)),
    bar("short.random", "random kernel: error", "<=", 0.01, "deconvolution_races",
         largest("largest error", where={"kernel": "randn"}), "the largest over the seeds, here and below"),
    bar("short.seconds", "random kernel: CPU seconds", "<=", 0.2, "deconvolution_races",
         largest("CPU s", where={"kernel": "randn"})),
    bar("short.ar", "AR(2), spikes not negative: error", "<=", 0.02, "deconvolution_races",
         largest("largest error", where={"kernel": "AR(2)*", "codes": "x >= 0"})),
    bar("short.gaussian.10", "Gaussian, standard deviation 10, not negative: error", "<=", 0.02,
         "deconvolution_races", largest("largest error", where={"kernel": "gaussian, sd 10", "codes": "x >= 0"})),
    bar("short.gaussian.5", "Gaussian, standard deviation 5, not negative: error", "<=", 0.02,
         "deconvolution_races", largest("largest error", where={"kernel": "gaussian, sd 5", "codes": "x >= 0"})),
    bar("short.signed", "AR(2), signed spikes: error", "<=", 0.06, "deconvolution_races",
         largest("largest error", where={"kernel": "AR(2)*", "codes": "signed"})),
    bar("calcium", "blind calcium at noise 0.1: correlation", ">=", 0.97, "deconvolution_races",
         smallest("ours", where={"noise": "0.1"})),
)  # fmt: skip

_STARTS = {"match mean / min": "*"}

CONVOLUTIONAL = (
    bar("start.objective", "from one unlifted start to objective 30.5, time over SPORCO's", "<=", 1.0,
         "convolutional_races",
         quotient("s to 30.5", of={"solver": _OURS, **_STARTS}, over={"solver": "SPORCO*"}, by=("start",)),
         "the worst start"),
    bar("default.match", "default starts: share with a least kernel match of 0.99", ">=", 1.0, "convolutional_races",
         smallest("least match >= .99")),
    bar("default.seconds", "default starts: CPU seconds", "<=", 8.0, "convolutional_races", largest("CPU s, most")),
    bar("image.seconds", "natural image to objective 26.5, CPU seconds", "<=", 6.0, "convolutional_races",
         largest("s to 26.5", where={"solver": _OURS}), "the worst start"),
    bar("iteration", "an iteration beside the bare transforms it needs, ratio", "<=", 2.5, "convolutional_races",
         largest("ratio", where={"problem": "*", "iteration, ms": "*"})),
)  # fmt: skip

_NOISY = {"of": {"method": _OURS}, "over": {"method": "SPAMS*"}, "by": ("image", "noise")}

PRACTICE = (
    bar("denoising.psnr", "denoising: PSNR above that of SPAMS, dB", ">=", 0.0, "denoising",
         beyond("PSNR (dB)", **_NOISY), "the worst image and noise"),
    bar("denoising.seconds", "denoising: time over that of SPAMS", "<=", 1.0, "denoising",
         quotient("CPU (s)", **_NOISY), "the worst image and noise; SPAMS with its fewer iterations"),
    bar("spikes", "spike sorting at noise 0.1: F1", ">=", 0.95, "spikes",
         smallest("F1", where={"noise": "0.1", "method": _OURS})),
)  # fmt: skip

_GIVEN = {"method": ("tightframe, rank at most 2 r", "tightframe, rank at most 4 r")}

LINEAR = (
    bar("reduced.error", "reduced dynamics against full descent: largest difference", "<=", 1e-12, "deep_linear",
         largest("difference")),
    bar("reduced.speed", "reduced dynamics: times faster than full descent", ">=", 100.0,
         "deep_linear", smallest("full/reduced")),
    bar("completion.error", "rank over-estimated 2 to 4 times: error of entries not seen", "<=", 1e-6, "completion",
         largest("error", where={**_GIVEN, "problem": "*"})),
    bar("completion.seconds", "rank over-estimated 2 to 4 times: time over least squares told the rank", "<=", 5.0,
         "completion", largest("ratio", where=_GIVEN)),
    bar("completion.success", "d = 100, rank 5 unknown, 15 % observed: share recovered", ">=", 0.8, "completion",
         smallest("tightframe, rank unknown", where={"observed": "0.15"}), "16 of 20 in the prototype"),
    bar("completion.success.more", "d = 100, rank 5 unknown, 20 % observed or more: share recovered", ">=", 1.0,
         "completion",
         smallest("tightframe, rank unknown", where={"observed": ("0.2", "0.25", "0.3", "0.4")})),
    bar("completion.power", "power law: error over the best of the others", "<=", 1.0, "completion",
         lambda result: _power_law(result)),
)  # fmt: skip

KERNELS = (
    bar("kernel.error", "tabulated kernel against the recursion, error", "<=", 1e-9, "tangent_kernels",
         largest("error", where={"L": "*"})),
    bar("kernel.table", "tabulated kernel, error that a table states", "<=", 1e-10, "tangent_kernels",
         largest("error", where={"L": "*"})),
    bar("kernel.speed", "times faster than neural-tangents' later calls at L = 125", ">=", 100.0, "tangent_kernels",
         smallest("NT later / later", where={"L": "125"})),
    bar("kernel.shallow", "times faster than neural-tangents' later calls at L = 3", ">=", 1.0, "tangent_kernels",
         smallest("NT later / later", where={"L": "3"})),
    bar("kernel.products", "beside the product X X^T with one look-up, ratio", "<=", 3.0, "tangent_kernels",
         largest("ratio", where={"d": "*"})),
    bar("kernel.memory", "one product at N = 20,000, memory over that of the matrix", "<=", 1.0,
         "tangent_kernel_scale", columns_quotient("memory (MB)", "stored (MB)", where={"N": "20,000"}),
         "the bar says: in bounded memory"),
)  # fmt: skip

HOUSE = (
    bar("damaged.cases", "damaged files read", ">=", 10_000.0, "robustness", total("cases", where={"reader": "all"})),
    bar("damaged.faults", "faults among them", "<=", 0.0, "robustness", total("faults", where={"reader": "all"})),
    elsewhere("claims.smoke", "every claim at preset smoke on two cores, minutes", "<=", 15.0,
               "time tightframe claims --preset smoke --workers 2"),
)  # fmt: skip

BARS = {
    "Measuring collapse": MEASURING,
    "Unconstrained features": MODELS,
    "Training levers": LEVERS,
    "Transfer": TRANSFER,
    "Dictionaries": DICTIONARIES,
    "Blind deconvolution": DECONVOLUTION,
    "Convolutional dictionaries": CONVOLUTIONAL,
    "Images and recordings": PRACTICE,
    "Deep linear networks and completion": LINEAR,
    "Tangent kernels": KERNELS,
    "The whole": HOUSE,
}


def _power_law(result: ResultFile) -> float | None:
    """Error of ours over the least other one, in the table that has neither problems nor ratios."""
    table = next((each for each in result.tables if each.columns == ("method", "error", "CPU s")), None)
    if table is None:
        return None
    errors = {row["method"]: float(row["error"]) for row in table.select()}
    others = [error for method, error in errors.items() if not method.startswith(_OURS)]
    return errors[_OURS] / min(others) if _OURS in errors and others else None
