r"""The landscape on spheres: how far a point is from optimal, what kind of critical point it is, and the ways down.

For cross-entropy, any class sizes, every temperature and d >= max(K, 3), each critical point is a global minimiser or a
strict saddle, and the three constructions of `negative_curvature` cover all saddles. (The source has d > K, equal
classes and bounded temperatures.) With P the gradient of the mean loss in the logits, critical means
tau P H^T = diag(alpha) W and tau W^T P = H diag(beta), and 1^T P = 0.

1. Some beta_i = 0: then w_y = sum_j p_j w_j with all p_j > 0, a mean of unit vectors that has norm one. So all rows of
   W agree, all beta vanish, the features feel no curvature, and they are coupled to W ("single classifier").
2. Otherwise the features lie in the span of the rows of W. If that is not the whole space, a unit vector is orthogonal
   to everything ("null space"), and a point without negative curvature along it is globally optimal.
3. If it is, then d = K and W is invertible. Now diag(alpha) = tau^2 P diag(1/beta) P^T has column sums of zero, so that
   alpha = 0, sum_i beta_i = sum_k alpha_k = 0, and some beta_i > 0 ("inverse classifier").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.core.solution import Certificate
from tightframe.core.threads import on_few_threads
from tightframe.core.typing import Float
from tightframe.optimize.curvature import extreme_eigenpairs
from tightframe.optimize.riemannian import tangent
from tightframe.ufm.certificate import Direction
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm
from tightframe.ufm.normalized_optima import normalized_optimum

# A gradient, or a negative curvature, counts from this share of tau |P| on.
_NEGLIGIBLE = 1e-7

Kind = Literal["global", "strict saddle", "other", "not critical"]
Construction = Literal["null space", "single classifier", "inverse classifier", "eigenvector", "gradient"]


@dataclass(frozen=True)
class NormalizedCriticalPoint:
    """What is known of a point.

    Args:
        kind: "global" where the certificate holds; "not critical" where it does not and the gradient is not small;
            "strict saddle" where a direction has negative curvature; "other" where none was found: a local minimum that
            is not global, or a degenerate point.
        certificate: Bound on the distance from the minimum.
        gradient_norm: Norm of the gradient on the spheres.
        smallest_eigenvalue: Of the Hessian on the spheres. Rotations leave f as it is, so it is never above 0 at
            critical points.
        construction: Where the direction comes from; None without one.
        direction: A direction in which f falls; None where none was found.
    """

    kind: Kind
    certificate: Certificate
    gradient_norm: float
    smallest_eigenvalue: float
    construction: Construction | None
    direction: Direction | None


@on_few_threads
def classify_normalized(
    problem: NormalizedFeatures,
    W: Tensor,
    H: Tensor,
    *,
    labels: Tensor | None = None,
    tolerance: float = 1e-9,
    seed: int = 0,
) -> NormalizedCriticalPoint:
    """What kind of point (W, H) is, with the evidence.

    Args:
        problem: The model.
        W: Classifier (k, d), rows of unit norm.
        H: Features (d, n), columns of unit norm.
        labels: Class of every column; None where they are ordered by class.
        tolerance: Gap up to which the point counts as global.
        seed: Seed of the eigenvalue search.

    Raises:
        InputError: The point does not fit the problem.

    Example:
        >>> problem = NormalizedFeatures(classes=4, features=6, per_class=2, temperature=3.0)
        >>> best = normalized_optimum(problem).point()
        >>> [classify_normalized(problem, best.W, H).kind for H in (best.H, -best.H)]
        ['global', 'strict saddle']
    """
    form = problem.form(W, H, labels=labels)
    certificate = certify_normalized(form, tolerance=tolerance)
    smallest = smallest_curvature(form, seed=seed)
    found = way_down(form, seed=seed)
    construction, direction = found or (None, None)
    kind: Kind = "other"
    if certificate.holds:
        kind = "global"
    elif direction is not None:
        kind = "not critical" if direction.kind == "gradient" else "strict saddle"
    return NormalizedCriticalPoint(kind, certificate, form.gradient_norm, smallest, construction, direction)


def certify_normalized(form: SphereForm, *, tolerance: float = 1e-9) -> Certificate:
    r"""A rigorous bound on f(W, H) - min f.

    Kind "closed form" where the minimum is known. Else "dual gap", for convex losses, any class sizes and any d: f is
    convex in the Gram matrix of all rows of W and columns of H, which is positive semidefinite with a diagonal of ones,
    whence for any beta < 0 and alpha with -diag(alpha) - T positive semidefinite

    .. math:: f - f^\star \le \tau\langle P, WH\rangle - \tfrac12 \sum_k \alpha_k - \tfrac12 \sum_i \beta_i, \qquad
        T = \tau^2 P \operatorname{diag}(1/|\beta|) P^\top

    taken at beta_i = -tau |W^T p_i| and alpha = -diag(T W W^T), lowered by one number until it is feasible. At a
    critical point with all beta_i < 0 the bound is 0 exactly where f is globally optimal in all dimensions.

    Returns:
        Certificate with the evidence "value", "bound", "dual gap" (inf for a loss that is not convex) and
        "gradient norm".

    Reference: [yaras2022neural], theorem 3.1, for the closed form; [boumal2016nonconvex] for duality with a diagonal of
    ones.
    """
    value, known = float(form.value), normalized_optimum(form.problem)
    gap = dual_gap(form)
    bound = known.value if known.known else value - gap
    return Certificate(
        "closed form" if known.known else "dual gap",
        value - bound,
        tolerance,
        {"value": value, "bound": bound, "dual gap": gap, "gradient norm": form.gradient_norm},
    )


def dual_gap(form: SphereForm) -> float:
    """The bound by duality alone; inf for a loss that is not convex."""
    if not form.problem.loss.convex:
        return float("inf")
    slopes = form.slopes
    wanted, lengths = (torch.linalg.vector_norm(part, dim=0) for part in (form.W.T @ slopes, slopes))
    # Every choice of sizes is a bound: the first is exact at an optimum, the others help where the rows of W agree.
    shares = (1e-3,) if bool((wanted >= lengths).all()) else (1e-3, 0.1, 1.0)
    return min(_gap_at(form, torch.maximum(wanted, share * lengths).clamp(min=1e-300)) for share in shares)


def _gap_at(form: SphereForm, sizes: Tensor) -> float:
    """The bound by duality at beta = -tau sizes."""
    tau, slopes = form.problem.temperature, form.slopes
    T = tau * (slopes / sizes) @ slopes.T
    needed = (T * (form.W @ form.W.T)).sum(1)
    lift = max(0.0, -float(torch.linalg.eigvalsh(torch.diag(needed) - T)[0]))
    along = float((slopes * form.logits).sum())
    return along + 0.5 * float(needed.sum() + len(needed) * lift + tau * sizes.sum())


def smallest_curvature(form: SphereForm, *, seed: int = 0) -> float:
    """The smallest eigenvalue of the Hessian on the spheres, by Lanczos' method; NaN where that did not converge."""
    found = extreme_eigenpairs(form.product, form.dimension, seed=seed, device=form.H.device)
    return float(found.values[0]) if found.status.converged else float("nan")


def way_down(form: SphereForm, *, seed: int = 0) -> tuple[Construction, Direction] | None:
    """A direction in which f falls: the negative gradient, or one of negative curvature; None where none was found."""
    scale = _NEGLIGIBLE * form.problem.temperature * float(torch.linalg.vector_norm(form.slopes))
    if form.gradient_norm > scale:
        return "gradient", _direction(form, "gradient", *(-part for part in form.gradient))
    return negative_curvature(form, scale, seed=seed)


def negative_curvature(
    form: SphereForm, threshold: float = 0.0, *, seed: int = 0
) -> tuple[Construction, Direction] | None:
    r"""A unit direction of curvature below -threshold at a critical point, constructed where theory has one.

    - "null space": for a unit a orthogonal to all rows of W and columns of H the direction (u a^T, a v^T) has the
      curvature of (u, v) in the matrix M = [[-diag(alpha), tau P], [tau P^T, -diag(beta)]]; its lowest eigenpair is
      taken. Where M is positive semidefinite and l convex, f is globally optimal. From d = K + 1 on such an a exists
      unless some beta_i = 0, which for cross-entropy means that all rows of W agree.
    - "single classifier": where they do, all logits of a sample are equal and features feel no curvature of their own.
      With a unit b orthogonal to that row and a unit u of zero sum, Hess[u b^T, 0] = (R, V) with V = -(tau/N) (I - h_i
      h_i^T) b u_{y_i}, and in the plane of (u b^T, 0) and (0, V/|V|) the Hessian is [[A, |V|], [|V|, 0]]: its lower
      eigenvalue is below zero at every temperature. (The mixture u b^T, -(N/tau) V is below zero only up to a
      temperature of about 2 (d-2), the bound of the source.)
    - "inverse classifier": for d = K and W of full rank t = W^{-1} 1 changes no margin; a feature with beta_i > 0 moved
      along it has curvature -beta_i.
    - "eigenvector": the lowest eigenvector of the Hessian, from products, where none of these is negative.

    Returns:
        The name of the construction and the direction; None where no curvature is below -threshold.
    """
    tries = (("null space", _null_space), ("single classifier", _single), ("inverse classifier", _inverse))
    for name, build in tries:
        built = build(form, seed)
        if built is not None and built[0] < -threshold:
            return name, _direction(form, "negative curvature", *built[1:], predicted=built[0])
    found = extreme_eigenpairs(form.product, form.dimension, seed=seed, device=form.H.device)
    if found.status.converged and float(found.values[0]) < -threshold:
        parts = form.direction(found.vectors[:, 0])
        return "eigenvector", _direction(form, "negative curvature", *parts, predicted=float(found.values[0]))
    return None


def _direction(form: SphereForm, kind: str, dW: Tensor, dH: Tensor, predicted: float | None = None) -> Direction:
    slope = float((form.gradient[0] * dW).sum() + (form.gradient[1] * dH).sum())
    curvature = form.curvature_along(dW, dH)
    return Direction(kind, dW, dH, form.point.b, slope, curvature, predicted)


def _null_space(form: SphereForm, seed: int) -> tuple[float, Tensor, Tensor] | None:
    missing = _missing(torch.cat([form.W, form.H.T]))
    if missing is None:
        return None
    tau, classes = form.problem.temperature, form.problem.classes

    def product(pair: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        u, v = pair[:classes], pair[classes:]
        return torch.cat([tau * (form.slopes @ v) - form.alpha * u, tau * (u @ form.slopes) - form.beta * v])

    size = classes + form.problem.samples
    found = extreme_eigenpairs(product, size, seed=seed, device=form.H.device)
    if not len(found.values):
        return None
    u, v = found.vectors[:classes, 0], found.vectors[classes:, 0]
    return float(found.values[0]), torch.outer(u, missing), torch.outer(missing, v)


def _single(form: SphereForm, seed: int) -> tuple[float, Tensor, Tensor] | None:
    row = form.W[0]
    if not form.problem.loss.shift_invariant or float((form.W - row).abs().max()) > _NEGLIGIBLE:
        return None
    draw = torch.randn(form.problem.features, dtype=torch.float64, generator=generator(seed)).to(row)
    b = draw - row * (row @ draw)
    u = torch.zeros(form.problem.classes, dtype=torch.float64, device=row.device)
    half = form.problem.classes // 2
    u[:half], u[half : 2 * half] = 1.0, -1.0
    return _mixture(form, torch.outer(u / u.norm(), b / b.norm()))


def _mixture(form: SphereForm, dW: Tensor) -> tuple[float, Tensor, Tensor] | None:
    """The best combination of a unit change of W with what the Hessian couples it to in H, where H alone is flat."""
    in_W, in_H = form.second(dW, torch.zeros_like(form.H))
    alone, coupling = float((dW * in_W).sum()), float(torch.linalg.vector_norm(in_H))
    if coupling == 0:
        return None
    values, vectors = torch.linalg.eigh(torch.tensor([[alone, coupling], [coupling, 0.0]], dtype=torch.float64))
    cos, sin = vectors[:, 0].tolist()
    return float(values[0]), cos * dW, sin * in_H / coupling


def _inverse(form: SphereForm, seed: int) -> tuple[float, Tensor, Tensor] | None:
    problem = form.problem
    largest = int(form.beta.argmax())
    if not problem.loss.shift_invariant or problem.features != problem.classes or float(form.beta[largest]) <= 0:
        return None
    if float(torch.linalg.svdvals(form.W)[-1]) < _NEGLIGIBLE:
        return None
    towards = torch.linalg.solve(form.W, form.W.new_ones(problem.classes))
    step = torch.zeros_like(form.H)
    step[:, largest] = towards
    step = tangent(form.H, step)
    step = step / torch.linalg.vector_norm(step)
    return -float(form.beta[largest]), torch.zeros_like(form.W), step


def _missing(rows: Tensor) -> Tensor | None:
    """A unit vector orthogonal to all rows (m, d); None where they span the space."""
    triangle = torch.linalg.qr(rows, mode="r").R
    _, values, right = torch.linalg.svd(triangle, full_matrices=True)
    rank = int((values > 1e-8 * values[0]).sum())
    return right[-1] if rank < rows.shape[1] else None
