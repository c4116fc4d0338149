"""What every loss of the unconstrained-features model has to satisfy; a new subclass is tested without being named."""

from __future__ import annotations

import pickle

import pytest
import torch
from scipy.optimize import minimize

from tightframe.core.rng import generator
from tightframe.ufm.loss import Loss
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError, named_loss


def subclasses(of: type) -> list[type]:
    return [kind for child in of.__subclasses__() for kind in (child, *subclasses(child))]


# Further members of each family, beside the default that every subclass is tested with.
FURTHER = [
    CrossEntropy(0.1),
    CrossEntropy(0.8),
    Focal(0.0),
    Focal(0.5),
    Focal(5.0),
    SquaredError(5.0, 3.0),
    SquaredError(0.2, 0.5),
]
LOSSES = [kind() for kind in subclasses(Loss)] + FURTHER
CLASSES = [2, 3, 7]

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
every_size = pytest.mark.parametrize("classes", CLASSES)


def sample(classes, columns=40, *, scale=3.0, seed=0):
    draws = generator(seed)
    logits = scale * torch.randn(classes, columns, dtype=torch.float64, generator=draws)
    return logits, torch.randint(classes, (columns,), generator=draws), draws


def hessians(loss, logits, targets):
    """Hessians (n, k, k) by differentiating the value twice."""
    logits = logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss.value(logits, targets).sum(), logits, create_graph=True)
    rows = [torch.autograd.grad(row.sum(), logits, retain_graph=True)[0] for row in gradient]
    return torch.stack(rows).permute(2, 0, 1)


@every_loss
@every_size
def test_gradient_is_that_of_the_value(loss, classes):
    logits, targets, _ = sample(classes)
    logits.requires_grad_(True)
    (expected,) = torch.autograd.grad(loss.value(logits, targets).sum(), logits)
    assert torch.allclose(loss.gradient(logits.detach(), targets), expected, rtol=1e-12, atol=1e-13)


@every_loss
@every_size
def test_curvature_is_the_second_derivative(loss, classes):
    logits, targets, draws = sample(classes)
    direction = torch.randn(logits.shape, dtype=torch.float64, generator=draws)
    weights = torch.rand(len(targets), dtype=torch.float64, generator=draws)
    dense = hessians(loss, logits, targets)
    expected = torch.einsum("nij,jn->in", dense, direction)
    assert torch.allclose(loss.curvature(logits, targets, direction), expected, rtol=1e-10, atol=1e-12)
    total = torch.einsum("n,nij->ij", weights, dense)
    assert torch.allclose(loss.total_curvature(logits, targets, weights), total, rtol=1e-10, atol=1e-12)


@every_loss
@every_size
def test_flags_and_smoothness_are_true_of_the_hessian(loss, classes):
    values = []
    for scale in (0.3, 1.0, 3.0, 10.0):
        logits, targets, _ = sample(classes, 200, scale=scale, seed=1)
        dense = hessians(loss, logits, targets)
        values.append(torch.linalg.eigvalsh(dense))
        moved = loss.value(logits + 1.7, targets) - loss.value(logits, targets)
        assert loss.shift_invariant == bool(moved.abs().max() < 1e-12)
    values = torch.cat(values)
    assert float(values.max()) <= loss.smoothness * (1 + 1e-12)
    assert loss.convex == (float(values.min()) > -1e-12)


@every_loss
@every_size
def test_columns_do_not_see_each_other_and_nothing_is_written_into(loss, classes):
    logits, targets, draws = sample(classes, 6)
    direction = torch.randn(logits.shape, dtype=torch.float64, generator=draws)
    slopes = loss.gradient(logits, targets)
    slopes *= loss.shrink(slopes, targets)
    before = [tensor.clone() for tensor in (logits, targets, direction, slopes)]
    calls = {
        "value": (loss.value, (logits,)),
        "gradient": (loss.gradient, (logits,)),
        "conjugate": (loss.conjugate, (slopes,)),
    }
    for name, (function, arguments) in calls.items():
        whole = function(*arguments, targets)
        for i in range(6):
            alone = function(*(a[:, i : i + 1] for a in arguments), targets[i : i + 1])
            assert torch.allclose(whole[..., i : i + 1], alone, rtol=1e-13, atol=1e-14), name
    loss.curvature(logits, targets, direction)
    loss.total_curvature(logits, targets, torch.ones(6, dtype=torch.float64))
    for tensor, old in zip((logits, targets, direction, slopes), before, strict=True):
        assert torch.equal(tensor, old)


def slopes_inside(loss, classes, seed):
    """Slopes in the domain of the conjugate: scaled gradients, and mixtures of those of one class."""
    logits, targets, draws = sample(classes, 60, scale=4.0, seed=seed)
    slopes = loss.gradient(logits, targets)
    slopes = loss.shrink(slopes, targets) * slopes * torch.rand(60, dtype=torch.float64, generator=draws)
    order = torch.argsort(targets, stable=True)
    slopes, targets = slopes[:, order], targets[order]
    same = (targets == targets.roll(1))[None]
    return torch.where(same, (slopes + slopes.roll(1, 1)) / 2, slopes), targets


@every_loss
@every_size
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_fenchel_young(loss, classes, scale):
    # <u, z> <= l(z) + l*(u) for every pair, whatever the sign of the curvature.
    slopes, targets = slopes_inside(loss, classes, seed=2)
    conjugate = loss.conjugate(slopes, targets)
    assert bool(torch.isfinite(conjugate).all())
    for seed in range(30):
        logits = sample(classes, len(targets), scale=scale, seed=100 + seed)[0]
        excess = loss.value(logits, targets) + conjugate - (slopes * logits).sum(0)
        assert float(excess.min()) >= -1e-12 * (1 + scale)


@every_loss
@every_size
def test_the_conjugate_is_the_supremum(loss, classes):
    slopes, targets = slopes_inside(loss, classes, seed=3)
    for i in range(0, 60, 13):
        slope, target = slopes[:, i], targets[i : i + 1]

        def below(vector, slope=slope, target=target):
            z = torch.from_numpy(vector)[:, None]
            return float(loss.value(z, target)[0] - slope @ z[:, 0]), (loss.gradient(z, target)[:, 0] - slope).numpy()

        starts = [sample(classes, 1, scale=s, seed=i)[0][:, 0].numpy() for s in (0.1, 3.0)]
        starts.append(3 * torch.nn.functional.one_hot(target, classes)[0].double().numpy())
        found = max(
            -minimize(below, start, jac=True, method="BFGS", options={"gtol": 1e-11, "maxiter": 500}).fun
            for start in starts
        )
        # The supremum is approached from below, quadratically in the 1e-9 that rounding leaves of the gradient.
        assert float(loss.conjugate(slopes[:, i : i + 1], target)) == pytest.approx(found, abs=1e-9, rel=1e-9)


@every_loss
@every_size
def test_outside_of_its_domain_the_conjugate_is_infinite(loss, classes):
    _, targets, draws = sample(classes, 40)
    slopes = 3 * torch.randn(classes, 40, dtype=torch.float64, generator=draws)
    conjugate = loss.conjugate(slopes, targets)
    if not loss.shift_invariant:
        assert bool(torch.isfinite(conjugate).all())
        return
    assert bool(torch.isinf(conjugate).all())
    logits, targets, _ = sample(classes, 40)
    gradient = loss.gradient(logits, targets)
    allowed = loss.gradient(logits, targets) * loss.shrink(gradient, targets)
    assert bool(torch.isfinite(loss.conjugate(allowed, targets)).all())
    assert bool(torch.isinf(loss.conjugate(allowed + 1e-6, targets)).all())
    for sign in (1.5, -1.5):
        steep = torch.zeros(classes, 1, dtype=torch.float64)
        steep[0], steep[1] = sign, -sign
        assert float(loss.conjugate(steep, targets.new_zeros(1))) == float("inf")
        # And rightly so: along z = t u the difference <u, z> - l(z) grows without bound.
        growth = [float((steep * t * steep).sum() - loss.value(t * steep, targets.new_zeros(1))) for t in (1e2, 1e4)]
        assert growth[1] > 50 * growth[0] > 0


@every_loss
@every_size
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_shrink_is_the_largest_factor(loss, classes, scale):
    logits, targets, _ = sample(classes, 30, scale=scale)
    for i in range(30):
        slopes, target = loss.gradient(logits[:, i : i + 1], targets[i : i + 1]), targets[i : i + 1]
        factor = loss.shrink(slopes, target)
        assert 0 < factor <= 1
        assert float(loss.conjugate(factor * slopes, target)) < float("inf")
        if factor < 1 - 1e-9:
            assert float(loss.conjugate(factor * (1 + 1e-9) * slopes, target)) == float("inf")


@every_loss
@every_size
@pytest.mark.parametrize("scale", [0.1, 2.0, 50.0])
def test_a_small_loss_means_a_small_violation(loss, classes, scale):
    if not loss.shift_invariant:
        return
    logits, targets, _ = sample(classes, 50, scale=scale)
    for value, margin in zip(
        loss.value(logits, targets), (logits - logits.gather(0, targets[None])).amax(0), strict=True
    ):
        assert float(margin) <= loss.margin_within(float(value)) + 1e-12
    assert loss.margin_within(float("inf")) == float("inf")


@every_loss
@every_size
def test_extreme_logits_give_numbers(loss, classes):
    targets = torch.zeros(2, dtype=torch.long)
    logits = torch.zeros(classes, 2, dtype=torch.float64)
    logits[0, 0], logits[1, 1] = 1e3, 1e3
    logits[1, 0], logits[0, 1] = -1e3, -1e3
    assert bool(torch.isfinite(loss.value(logits, targets)).all())
    gradient = loss.gradient(logits, targets)
    assert bool(torch.isfinite(gradient).all())
    assert bool(torch.isfinite(loss.curvature(logits, targets, torch.ones_like(logits))).all())
    conjugate = loss.conjugate(loss.shrink(gradient, targets) * gradient, targets)
    assert bool(torch.isfinite(conjugate).all())


@every_loss
def test_a_loss_is_a_value(loss):
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert hash(pickle.loads(pickle.dumps(loss))) == hash(loss)
    assert named_loss(loss) is loss
    assert loss.name
    assert len({other.name for other in LOSSES}) == len(LOSSES)
