"""Dictionaries, deconvolution and convolutional dictionaries: sparse structure in signals and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.dictionary.blind.deconvolution import MultichannelBlindDeconvolution, ShortAndSparseDeconvolution
    from tightframe.dictionary.blind.multichannel import deconvolve_channels
    from tightframe.dictionary.blind.noise import noise_level
    from tightframe.dictionary.blind.rounding import l1_rounding
    from tightframe.dictionary.blind.short_and_sparse import code_short, deconvolve_short
    from tightframe.dictionary.convolutional.bilinear import bilinear_lasso
    from tightframe.dictionary.convolutional.convolution import Convolution
    from tightframe.dictionary.convolutional.convolutional import ConvolutionalDictionaryLearning
    from tightframe.dictionary.convolutional.lifting import lifted_bilinear_lasso
    from tightframe.dictionary.convolutional.several_kernels import deconvolve_several
    from tightframe.dictionary.convolutional.shifts import KernelMatch, aligned_kernels, match_kernels
    from tightframe.dictionary.convolutional.sparse_coding import convolutional_sparse_coding
    from tightframe.dictionary.detection import binned_correlation, match_boxes, match_points
    from tightframe.dictionary.images.background import structured_level, without_background
    from tightframe.dictionary.images.bases import cosine_basis, learn_bases
    from tightframe.dictionary.images.defects import Defects, find_defects
    from tightframe.dictionary.images.fidelity import psnr, ssim
    from tightframe.dictionary.images.inpainting import inpaint
    from tightframe.dictionary.images.pictures import Restored
    from tightframe.dictionary.images.restoration import denoise
    from tightframe.dictionary.linear.l4 import L4DictionaryLearning
    from tightframe.dictionary.linear.landscape import expected_fourth_power, sphere_critical_points
    from tightframe.dictionary.linear.learning import complete_dictionary, overcomplete_dictionary
    from tightframe.dictionary.linear.overcomplete import all_columns, one_column
    from tightframe.dictionary.linear.precondition import preconditioner, tightness_deviation
    from tightframe.dictionary.linear.recovery import l4_score
    from tightframe.dictionary.spikes.sorting import Sorting, sort_spikes
    from tightframe.dictionary.spikes.sorting_scores import match_spikes

_HOMES = {
    "Convolution": "convolutional.convolution",
    "ConvolutionalDictionaryLearning": "convolutional.convolutional",
    "Defects": "images.defects",
    "KernelMatch": "convolutional.shifts",
    "L4DictionaryLearning": "linear.l4",
    "MultichannelBlindDeconvolution": "blind.deconvolution",
    "Restored": "images.pictures",
    "ShortAndSparseDeconvolution": "blind.deconvolution",
    "Sorting": "spikes.sorting",
    "aligned_kernels": "convolutional.shifts",
    "all_columns": "linear.overcomplete",
    "bilinear_lasso": "convolutional.bilinear",
    "binned_correlation": "detection",
    "code_short": "blind.short_and_sparse",
    "complete_dictionary": "linear.learning",
    "convolutional_sparse_coding": "convolutional.sparse_coding",
    "cosine_basis": "images.bases",
    "deconvolve_channels": "blind.multichannel",
    "deconvolve_several": "convolutional.several_kernels",
    "deconvolve_short": "blind.short_and_sparse",
    "denoise": "images.restoration",
    "expected_fourth_power": "linear.landscape",
    "find_defects": "images.defects",
    "inpaint": "images.inpainting",
    "l1_rounding": "blind.rounding",
    "l4_score": "linear.recovery",
    "learn_bases": "images.bases",
    "lifted_bilinear_lasso": "convolutional.lifting",
    "match_boxes": "detection",
    "match_kernels": "convolutional.shifts",
    "match_points": "detection",
    "match_spikes": "spikes.sorting_scores",
    "noise_level": "blind.noise",
    "one_column": "linear.overcomplete",
    "overcomplete_dictionary": "linear.learning",
    "preconditioner": "linear.precondition",
    "psnr": "images.fidelity",
    "sort_spikes": "spikes.sorting",
    "sphere_critical_points": "linear.landscape",
    "ssim": "images.fidelity",
    "structured_level": "images.background",
    "tightness_deviation": "linear.precondition",
    "without_background": "images.background",
}

__all__ = [
    "Convolution",
    "ConvolutionalDictionaryLearning",
    "Defects",
    "KernelMatch",
    "L4DictionaryLearning",
    "MultichannelBlindDeconvolution",
    "Restored",
    "ShortAndSparseDeconvolution",
    "Sorting",
    "aligned_kernels",
    "all_columns",
    "bilinear_lasso",
    "binned_correlation",
    "code_short",
    "complete_dictionary",
    "convolutional_sparse_coding",
    "cosine_basis",
    "deconvolve_channels",
    "deconvolve_several",
    "deconvolve_short",
    "denoise",
    "expected_fourth_power",
    "find_defects",
    "inpaint",
    "l1_rounding",
    "l4_score",
    "learn_bases",
    "lifted_bilinear_lasso",
    "match_boxes",
    "match_kernels",
    "match_points",
    "match_spikes",
    "noise_level",
    "one_column",
    "overcomplete_dictionary",
    "preconditioner",
    "psnr",
    "sort_spikes",
    "sphere_critical_points",
    "ssim",
    "structured_level",
    "tightness_deviation",
    "without_background",
]


__getattr__, __dir__ = exports("tightframe.dictionary", _HOMES)
