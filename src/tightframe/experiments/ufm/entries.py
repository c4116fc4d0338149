"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES = (
    Entry(
        "ufm-collapse",
        "Global optima of unconstrained features, loss by loss",
        "Is every global solution a collapsed one, for every loss and every treatment of the bias?",
        ("N1",),
    ),
    Entry(
        "ufm-landscape",
        "The landscape of unconstrained features",
        "Are there local minima, or only global ones and strict saddles, and for which feature dimensions?",
        ("N2",),
    ),
    Entry(
        "ufm-convex",
        "The convex program behind unconstrained features, and minority collapse",
        "Do the factored and the nuclear-norm program have the same solutions, and when do small classes merge?",
        ("N3",),
    ),
    Entry(
        "ufm-losses",
        "Four losses, one frame",
        "Do cross-entropy, label smoothing, focal loss and squared error lead to the same collapsed features?",
        ("N7",),
    ),
    Entry(
        "ufm-bias",
        "Squared error: the bias decides between orthogonal frame and simplex",
        "Which frame do features form without a bias, with a free one, and with every coefficient between?",
        ("N10",),
    ),
    Entry(
        "ufm-extended",
        "A second layer of weights, linear and with ReLU",
        "Do both levels of features collapse, or only the deeper one?",
        ("N11",),
    ),
    Entry(
        "ufm-perturbed",
        "Fixed features around a collapsed frame",
        "Does the classifier of perturbed features keep its direction, attenuated by the factor of the theory?",
        ("N12",),
    ),
    Entry(
        "ufm-depth",
        "Collapse over depth in extended models",
        "Does the ReLU model separate the levels of features as trained networks do, where the linear one does not?",
        ("N13",),
    ),
    Entry(
        "ufm-normalized",
        "Features and classifiers on spheres",
        "Is collapse the only local minimum on the product of spheres, within and beyond the proven temperatures?",
        ("N14",),
    ),
    Entry(
        "ufm-normalized-speed",
        "How fast normalised features collapse",
        "Does normalisation reach collapse in fewer steps than weight decay?",
        ("N15",),
    ),
    Entry(
        "ufm-low-rank",
        "Deep chains with ReLU: where low rank beats collapse",
        "From how many classes on is a collapsed deep ReLU chain no longer optimal?",
        ("X1",),
    ),
)
