"""Dictionaries, deconvolution and convolutional dictionaries: sparse structure in signals and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.dictionary.background import structured_level, without_background
    from tightframe.dictionary.bases import cosine_basis, learn_bases
    from tightframe.dictionary.bilinear import bilinear_lasso
    from tightframe.dictionary.convolution import Convolution
    from tightframe.dictionary.convolutional import ConvolutionalDictionaryLearning
    from tightframe.dictionary.deconvolution import MultichannelBlindDeconvolution, ShortAndSparseDeconvolution
    from tightframe.dictionary.defects import Defects, find_defects
    from tightframe.dictionary.detection import binned_correlation, match_boxes, match_points
    from tightframe.dictionary.fidelity import psnr, ssim
    from tightframe.dictionary.inpainting import inpaint
    from tightframe.dictionary.l4 import L4DictionaryLearning
    from tightframe.dictionary.landscape import expected_fourth_power, sphere_critical_points
    from tightframe.dictionary.learning import complete_dictionary, overcomplete_dictionary
    from tightframe.dictionary.lifting import lifted_bilinear_lasso
    from tightframe.dictionary.multichannel import deconvolve_channels
    from tightframe.dictionary.noise import noise_level
    from tightframe.dictionary.overcomplete import all_columns, one_column
    from tightframe.dictionary.pictures import Restored
    from tightframe.dictionary.precondition import preconditioner, tightness_deviation
    from tightframe.dictionary.recovery import l4_score
    from tightframe.dictionary.restoration import denoise
    from tightframe.dictionary.rounding import l1_rounding
    from tightframe.dictionary.several_kernels import deconvolve_several
    from tightframe.dictionary.shifts import KernelMatch, aligned_kernels, match_kernels
    from tightframe.dictionary.short_and_sparse import code_short, deconvolve_short
    from tightframe.dictionary.sorting import Sorting, sort_spikes
    from tightframe.dictionary.sorting_scores import match_spikes
    from tightframe.dictionary.sparse_coding import convolutional_sparse_coding

_HOMES = {
    "Convolution": "convolution",
    "ConvolutionalDictionaryLearning": "convolutional",
    "Defects": "defects",
    "KernelMatch": "shifts",
    "L4DictionaryLearning": "l4",
    "MultichannelBlindDeconvolution": "deconvolution",
    "Restored": "pictures",
    "ShortAndSparseDeconvolution": "deconvolution",
    "Sorting": "sorting",
    "aligned_kernels": "shifts",
    "all_columns": "overcomplete",
    "bilinear_lasso": "bilinear",
    "binned_correlation": "detection",
    "code_short": "short_and_sparse",
    "complete_dictionary": "learning",
    "convolutional_sparse_coding": "sparse_coding",
    "cosine_basis": "bases",
    "deconvolve_channels": "multichannel",
    "deconvolve_several": "several_kernels",
    "deconvolve_short": "short_and_sparse",
    "denoise": "restoration",
    "expected_fourth_power": "landscape",
    "find_defects": "defects",
    "inpaint": "inpainting",
    "l1_rounding": "rounding",
    "l4_score": "recovery",
    "learn_bases": "bases",
    "lifted_bilinear_lasso": "lifting",
    "match_boxes": "detection",
    "match_kernels": "shifts",
    "match_points": "detection",
    "match_spikes": "sorting_scores",
    "noise_level": "noise",
    "one_column": "overcomplete",
    "overcomplete_dictionary": "learning",
    "preconditioner": "precondition",
    "psnr": "fidelity",
    "sort_spikes": "sorting",
    "sphere_critical_points": "landscape",
    "ssim": "fidelity",
    "structured_level": "background",
    "tightness_deviation": "precondition",
    "without_background": "background",
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
