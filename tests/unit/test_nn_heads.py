"""The fixed classifier: a frame that follows from its seed, drop-in for nn.Linear, told apart in checkpoints."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.features.tap import FeatureTap
from tightframe.geometry.coherence import coherence
from tightframe.geometry.frames import ideal_gram, orthogonal_frame
from tightframe.nn.heads.heads import SimplexETFHead


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("features", "classes"), [(1, 2), (9, 10), (10, 10), (64, 10)])
def test_the_frame_is_a_simplex(features, classes):
    head = SimplexETFHead(features, classes)
    assert head.frame_kind == "simplex"
    # float32: unit rows are rounded to about 1e-7 each.
    torch.testing.assert_close(head.frame @ head.frame.T, ideal_gram(classes).float(), atol=1e-6, rtol=0)
    assert [name for name, _ in head.named_parameters()] == ["bias"]
    assert not [name for name, _ in SimplexETFHead(features, classes, bias=False).named_parameters()]


@pytest.mark.parametrize("learn_scale", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_scaled_products_plus_bias(bias, learn_scale):
    head = SimplexETFHead(6, 4, bias, scale=2.5, learn_scale=learn_scale, dtype=torch.float64)
    x = normal(5, 6).double().requires_grad_()
    if bias:
        nn.init.normal_(head.bias, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([(2.5 * head.frame * row).sum(1) for row in x]) + (head.bias if bias else 0)
    torch.testing.assert_close(head(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(head.weight, 2.5 * head.frame, atol=1e-12, rtol=0)
    inputs = (x, *head.parameters())
    assert torch.autograd.gradcheck(lambda *_: head(x), inputs)


def test_any_leading_axes_like_linear():
    head = SimplexETFHead(6, 4)
    x = normal(2, 3, 6)
    torch.testing.assert_close(head(x), functional.linear(x, head.frame, head.bias))
    assert head(x[0, 0]).shape == (4,)


def test_a_learned_scale_stays_positive():
    head = SimplexETFHead(6, 4, bias=False, scale=0.1, learn_scale=True)
    step = torch.optim.SGD(head.parameters(), lr=10.0)
    for _ in range(20):
        step.zero_grad()
        head(head.frame).trace().backward()  # falls with the scale
        step.step()
    assert 0 < float(head.log_scale.detach().exp()) < 0.1
    assert "learned" in repr(head)


def test_initialisers_that_write_into_the_weight_do_not_reach_the_frame():
    """A checkpoint holds the seed: a frame that was written over would come back as another one."""
    for head in (
        SimplexETFHead(5, 4),
        SimplexETFHead(5, 4, scale=np.float32(2)),
        SimplexETFHead(5, 4, learn_scale=True),
    ):
        before = head.frame.clone()
        with torch.no_grad():
            nn.init.normal_(head.weight)
        assert torch.equal(head.frame, before)


def test_seeds_and_the_global_state():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = SimplexETFHead(8, 5, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.frame, SimplexETFHead(8, 5, seed=3).frame)
    assert not torch.allclose(first.frame, SimplexETFHead(8, 5, seed=4).frame)


@pytest.mark.parametrize(("features", "classes", "kind"), [(3, 6, "conference"), (20, 22, "numerical")])
def test_below_k_minus_1_the_best_known_frame_takes_its_place(features, classes, kind):
    head = SimplexETFHead(features, classes, scale=2.0, bias=False)
    assert head.frame_kind == kind
    assert f"coherence {coherence(head.frame):.4f}" in repr(head)
    assert "Welch" in repr(head)
    assert "scale=2" in repr(head)
    assert "bias=False" in repr(head)


def test_checkpoints_hold_the_seed_not_the_frame():
    saved = SimplexETFHead(8, 5, seed=3, scale=4.0)
    nn.init.ones_(saved.bias)
    state = saved.state_dict()
    assert set(state) == {"bias", "_extra_state"}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other = SimplexETFHead(8, 5, seed=9)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = normal(4, 8)
    assert torch.equal(other(x), saved(x))
    assert (other.seed, other.scale) == (3, 4.0)
    assert set(other.state_dict()) == {"bias", "_extra_state"}


@pytest.mark.parametrize("sizes", [(7, 5), (5, 8)], ids=["given", "numerical"])
@pytest.mark.parametrize("fresh", ["same", "seeded"])
def test_frames_that_no_seed_makes_are_stored(sizes, fresh):
    features, classes = sizes
    frame = orthogonal_frame(classes, features, seed=1).float() if features > classes else None
    saved = SimplexETFHead(features, classes, frame=frame)
    assert "frame" in saved.state_dict()
    other = SimplexETFHead(features, classes, frame=None if fresh == "seeded" else saved.frame.flip(0), seed=5)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other.frame, saved.frame)
    assert other.frame_kind == saved.frame_kind
    assert "frame" in other.state_dict()


def test_a_seeded_checkpoint_replaces_a_given_frame():
    saved = SimplexETFHead(7, 5, seed=2)
    other = SimplexETFHead(7, 5, frame=orthogonal_frame(5, 7).float())
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other.frame, saved.frame)
    assert "frame" not in other.state_dict()


def test_a_given_frame_is_a_copy_with_its_lengths():
    frame = 3 * orthogonal_frame(5, 7).float()
    head = SimplexETFHead(7, 5, frame=frame)
    frame.zero_()
    assert float(head.frame.norm(dim=1).min()) == pytest.approx(3)


def test_the_checkpoint_of_a_learned_classifier_is_refused_in_words():
    model = nn.Sequential(nn.Linear(8, 5))
    state = model.state_dict()
    model[0] = SimplexETFHead(8, 5, seed=1)
    with pytest.raises(RuntimeError, match=r"0\._extra_state.*fixed frame.*learned weight.*strict=False"):
        model.load_state_dict(state)
    before = model[0].frame.clone()
    result = model.load_state_dict(state, strict=False)
    assert result.unexpected_keys == ["0.weight"]
    assert torch.equal(model[0].frame, before)
    assert torch.equal(model[0].bias, state["0.bias"])


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))])
def test_copies(copying):
    head = SimplexETFHead(8, 5, seed=3, scale=2.0, learn_scale=True)
    made = copying(head)
    x = normal(4, 8)
    assert torch.equal(made(x), head(x))
    assert set(made.state_dict()) == set(head.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    head = SimplexETFHead(16, 5, scale=2.0).to(dtype)
    x = normal(4, 16).to(dtype)
    assert head(x).dtype == dtype
    # Rows, features and sums are rounded: some ulps of numbers below 10.
    exact = 2.0 * x.double() @ SimplexETFHead(16, 5).frame.double().T
    torch.testing.assert_close(head(x).double(), exact, atol=100 * max(torch.finfo(dtype).eps, 1e-9), rtol=0)


def test_autocast_gives_what_linear_gives():
    head = SimplexETFHead(16, 5)
    x = normal(4, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(x)
        expected = functional.linear(x, head.frame, head.bias)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(logits, expected)


def test_modules_made_without_memory():
    with torch.device("meta"):
        head = SimplexETFHead(8, 5, seed=3, scale=2.0, learn_scale=True)
    head = head.to_empty(device="cpu")
    head.reset_parameters()
    made = SimplexETFHead(8, 5, seed=3, scale=2.0, learn_scale=True)
    x = normal(4, 8)
    torch.testing.assert_close(head(x), made(x))
    for features, classes in ((13, 27), (4, 7)):  # no other test has them cached
        with torch.device("meta"):
            assert SimplexETFHead(features, classes).frame.is_meta
        assert SimplexETFHead(features, classes)(normal(2, features)).shape == (2, classes)
    with torch.device("meta"):
        lazy = SimplexETFHead(8, 5, seed=3)
    lazy.load_state_dict(SimplexETFHead(8, 5, seed=3).state_dict(), assign=True)
    torch.testing.assert_close(lazy(x), SimplexETFHead(8, 5, seed=3)(x))


def test_feature_tap_takes_it_for_the_classifier():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), SimplexETFHead(6, 3, scale=2.0))
    tap = FeatureTap(model)
    taps = tap(normal(5, 4))
    assert tap.classifier_name == "2"
    torch.testing.assert_close(taps.features["features"] @ tap.weight.T + tap.bias, taps.logits)


@pytest.mark.filterwarnings("ignore")
def test_the_compiled_head_is_the_same():
    head = SimplexETFHead(8, 5, scale=2.0, learn_scale=True)
    x = normal(4, 8)
    torch.testing.assert_close(torch.compile(head, backend="eager", fullgraph=True)(x), head(x))


def test_resized():
    head = SimplexETFHead(8, 5, bias=False, seed=3, scale=2.0)
    assert torch.equal(head.resized(6).weight, SimplexETFHead(6, 5, seed=3, scale=2.0).weight)
    assert head.resized(6).bias is None
    with pytest.raises(InputError, match="made from a seed"):
        SimplexETFHead(5, 5, frame=torch.eye(5)).resized(4)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((8, 1), {}, "out_features is an integer of at least 2"),
        ((0, 3), {}, "in_features is an integer of at least 1"),
        ((1, 5), {}, "features is an integer of at least 2"),
        ((8, 3), {"seed": -1}, "seed is an integer of at least 0"),
        ((8, 3), {"seed": 2**53 + 1}, "at most 2"),
        ((8, 3), {"scale": 0.0}, "finite scale above zero"),
        ((8, 3), {"scale": float("nan")}, "finite scale above zero"),
        ((8, 3), {"frame": torch.eye(3)}, r"= \(3, 8\); got \(3, 3\)"),
        ((3, 3), {"frame": torch.eye(3) * float("nan")}, "finite rows other than zero"),
        ((3, 3), {"frame": torch.zeros(3, 3)}, "finite rows other than zero"),
        ((3, 3), {"frame": [[1.0]]}, "got list"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(InputError, match=message):
        SimplexETFHead(*arguments, **options)
