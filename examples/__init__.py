"""The gallery: short scripts, one per thing a user would want, each of which leaves one picture behind."""

from __future__ import annotations

SECTIONS = {
    "Measure a trained network": (
        "layer_by_layer",
        "transformer_classifier",
        "next_token_collapse",
        "lightning_callback",
        "trainer_callback",
        "torchmetrics_loop",
        "features_from_a_file",
    ),
    "Explain it": (
        "optimum_and_descent",
        "minority_collapse",
        "features_on_spheres",
        "certificate_of_a_last_layer",
    ),
    "Train with it": (
        "wrong_labels",
        "fixed_simplex_head",
        "four_losses",
        "rate_reduction",
    ),
    "Transfer": (
        "choose_a_backbone",
        "fine_tune_one_layer",
    ),
    "Recordings and images": (
        "sort_tetrode",
        "deconvolve_calcium",
        "locate_defects",
        "learn_kernels",
        "denoise_image",
        "inpaint_image",
    ),
    "Dictionaries": (
        "recover_dictionary",
        "sphere_landscape",
        "overcomplete_dictionary",
        "deconvolve_channels",
    ),
    "Deep linear networks and completion": (
        "law_of_parsimony",
        "compressed_network",
        "progressive_separation",
        "complete_ratings",
        "compressed_adapter",
    ),
    "Two manifolds and the tangent kernel": (
        "choose_depth",
        "kernel_by_depth",
        "network_beside_kernel",
        "kernel_regression",
    ),
}
