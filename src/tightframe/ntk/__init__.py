"""The neural tangent kernel, the geometry of data that it answers to, and what training does under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightframe.core.lazy import exports

if TYPE_CHECKING:
    from tightframe.ntk.arccos import angle_map
    from tightframe.ntk.certificates import TangentCertificate, certificate
    from tightframe.ntk.circulant import BlockCirculant
    from tightframe.ntk.depths import DepthRecommendation, recommend
    from tightframe.ntk.dynamics import LinearDynamics, lanczos_errors
    from tightframe.ntk.empirical import EmpiricalKernel, empirical_ntk
    from tightframe.ntk.estimators import ReLUKernel, TangentKernelRegressor
    from tightframe.ntk.finite import Comparison, compare_with_kernel, gradient_descent, relu_network
    from tightframe.ntk.kernel import relu_nngp, relu_ntk
    from tightframe.ntk.manifold import clover_number, curvature, reach, separation
    from tightframe.ntk.operator import KernelOperator
    from tightframe.ntk.recursion import Architecture, kernel_of_angle
    from tightframe.ntk.tabulated import AngleTable, kernel_table

_HOMES = {
    "AngleTable": "tabulated",
    "Architecture": "recursion",
    "BlockCirculant": "circulant",
    "Comparison": "finite",
    "DepthRecommendation": "depths",
    "EmpiricalKernel": "empirical",
    "KernelOperator": "operator",
    "LinearDynamics": "dynamics",
    "ReLUKernel": "estimators",
    "TangentCertificate": "certificates",
    "TangentKernelRegressor": "estimators",
    "angle_map": "arccos",
    "certificate": "certificates",
    "clover_number": "manifold",
    "compare_with_kernel": "finite",
    "curvature": "manifold",
    "empirical_ntk": "empirical",
    "gradient_descent": "finite",
    "kernel_of_angle": "recursion",
    "kernel_table": "tabulated",
    "lanczos_errors": "dynamics",
    "reach": "manifold",
    "recommend": "depths",
    "relu_network": "finite",
    "relu_nngp": "kernel",
    "relu_ntk": "kernel",
    "separation": "manifold",
}

__all__ = [
    "AngleTable",
    "Architecture",
    "BlockCirculant",
    "Comparison",
    "DepthRecommendation",
    "EmpiricalKernel",
    "KernelOperator",
    "LinearDynamics",
    "ReLUKernel",
    "TangentCertificate",
    "TangentKernelRegressor",
    "angle_map",
    "certificate",
    "clover_number",
    "compare_with_kernel",
    "curvature",
    "empirical_ntk",
    "gradient_descent",
    "kernel_of_angle",
    "kernel_table",
    "lanczos_errors",
    "reach",
    "recommend",
    "relu_network",
    "relu_nngp",
    "relu_ntk",
    "separation",
]


__getattr__, __dir__ = exports("tightframe.ntk", _HOMES)
