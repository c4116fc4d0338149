"""The experiments of this room."""

from __future__ import annotations

from tightframe.experiments.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "curve-geometry",
        "Separation, curvature, clover number and reach of curves",
        "Do the estimates from samples agree with curves whose geometry is known in closed form?",
        ("K1",),
    ),
    Entry(
        "kernel-concentration",
        "The kernel of finite networks about its formula",
        "How do width and depth set the largest deviation of a network's tangent kernel from the formula?",
        ("K2",),
    ),
    Entry(
        "kernel-aperture",
        "The kernel against angle",
        "Does the kernel decay with the angle, and faster in deeper networks?",
        ("K3",),
    ),
    Entry(
        "certificate-depth",
        "Certificates over depth, and the depth that curves ask for",
        "Do deeper networks admit smaller certificates, and which depth is worth its cost?",
        ("K4",),
    ),
    Entry(
        "kernel-samples",
        "Samples against the aperture of the kernel",
        "How many samples does kernel regression need, for which depth and separation?",
        ("K5",),
    ),
    Entry(
        "two-curves",
        "Two curves told apart by gradient descent",
        "Which depth, width and samples suffice for every point of both curves to get its label?",
        ("K6",),
    ),
    Entry(
        "gravitational-waves",
        "Chirps in noise: a network beside matched filtering",
        "Does a network detect chirps as matched filtering does, and better in noise that the bank does not know?",
        ("K6",),
    ),
)
