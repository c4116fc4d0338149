"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES = (
    Entry(
        "convolutional-dictionaries",
        "Kernels from fourth powers over all shifts",
        "Does a preconditioned sample lead to a shift of a kernel, and several of them to all kernels?",
        ("D6",),
    ),
    Entry(
        "bilinear-variants",
        "What the caveats of the bilinear Lasso are worth",
        "Do momentum, homotopy, reweighting and lifting matter, and most for low-pass kernels?",
        ("D7",),
    ),
    Entry(
        "l4-columns",
        "Columns of a dictionary as maxima of fourth powers",
        "Does every start on the sphere lead to a column, and are there critical points of a third kind?",
        ("D1", "D2", "D3"),
    ),
    Entry(
        "l4-dictionaries",
        "Whole dictionaries by repeated trials, after preconditioning",
        "How many columns can independent trials find, in which dimensions, and does preconditioning make them tight?",
        ("D4", "D5"),
    ),
    Entry(
        "spike-sorting",
        "Spikes sorted, overlapping ones included",
        "Does learning waveforms and spikes together sort what threshold, PCA and clustering confuse?",
        ("D8",),
    ),
    Entry(
        "microscopy",
        "Defects of surfaces by blind deconvolution",
        "Does blind deconvolution find the patterns of defects and where they are, simulated and measured?",
        ("D9",),
    ),
    Entry(
        "calcium",
        "Spikes from calcium traces of unknown response",
        "Does deconvolution that is not told the response find spikes as well as one that is told its family?",
        ("D9",),
    ),
    Entry(
        "image-restoration",
        "Dictionaries learned on an image restore it",
        "Does a dictionary learned on a degraded image restore it better than the fixed cosine one?",
        ("D10",),
    ),
)
