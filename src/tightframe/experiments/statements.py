"""What the sources state, id by id, in the words of this library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """One line of the ledger.

    Args:
        id: Letter of the subject and number; an experiment's claims begin with it ("N4.adam").
        text: What is stated.
        source: Where: an abbreviation that `ledger.SOURCES` resolves, with slide, theorem or figure.
    """

    id: str
    text: str
    source: str


LEDGER = (
    Statement(
        "D1",
        "Maximising the fourth powers of Y^T q over the sphere finds one column of an orthogonal dictionary from any "
        "random start.",
        "Q21, relationship to dictionary learning",
    ),
    Statement(
        "D2",
        "For Bernoulli-Gaussian codes the expected sum of fourth powers of Y^T q is an affine function of that of "
        "A^T q.",
        "Q21, relationship to dictionary learning",
    ),
    Statement(
        "D3",
        "For an overcomplete, incoherent unit-norm tight frame with m/n constant, every critical point is near a "
        "column or a strict saddle.",
        "Q21, global landscape of overcomplete dictionary learning, informal theorem",
    ),
    Statement(
        "D4",
        "Repeated independent trials find the whole dictionary; in practice for m up to the order of n^2, where theory "
        "needs m < Cn.",
        "Q21, overcomplete dictionary learning, and back-up slide",
    ),
    Statement(
        "D5",
        "Preconditioning by the inverse square root of the second moment of the data makes the dictionary a tight "
        "frame.",
        "Q21, from overcomplete to convolutional dictionary learning",
    ),
    Statement(
        "D6",
        "With convolutions the landscape is benign locally: a start made from data stays there and descent finds one "
        "shift of one kernel.",
        "Q21, local landscape of convolutional dictionary learning, informal theorem; learning random filters",
    ),
    Statement(
        "D7",
        "Alternating descent on the bilinear Lasso finds all kernels; momentum, homotopy and reweighting matter, most "
        "for low-pass kernels.",
        "Q21, from theory to practical methods",
    ),
    Statement("D8", "Convolutional dictionary learning sorts the spikes of neurons.", "Q21, spike sorting"),
    Statement(
        "D9",
        "It finds defects in scanning tunnelling microscopy, and spikes in two-photon calcium imaging.",
        "Q21, defect detection in scanning tunnelling microscopy; calcium imaging",
    ),
    Statement(
        "D10",
        "Learned dictionaries restore images: denoising, inpainting, super-resolution.",
        "Q21, unsupervised learning, applications",
    ),
    Statement(
        "N1",
        "Every global solution of regularised cross-entropy with unconstrained features and d >= K - 1 is a collapsed "
        "one, with zero bias.",
        "Q21, main theoretical results; L4, theorem (global optimality)",
    ),
    Statement(
        "N2",
        "For d > K there are no spurious local minima and every other critical point is a strict saddle; conjectured "
        "for d >= K - 1.",
        "Q21, main theoretical results; L4, theorem (benign global landscape)",
    ),
    Statement(
        "N3",
        "The factored program and the convex one with the nuclear norm have the same solutions.",
        "L4, geometric analysis for unconstrained features, (NVX) and (CVX)",
    ),
    Statement(
        "N4",
        "Networks collapse whatever the training algorithm (SGD, Adam, L-BFGS); generalisation depends on it.",
        "Q21, experiment: NC is algorithm independent; L4, the same",
    ),
    Statement(
        "N5",
        "Networks that are wide enough collapse on random labels and on random inputs.",
        "Q21, experiment: NC occurs for random labels; L4, random labels and inputs",
    ),
    Statement(
        "N6",
        "Networks collapse under weight decay of all weights, and of the last features and classifier alone.",
        "Q21, experiment: NC with different weight decays",
    ),
    Statement(
        "N7",
        "Cross-entropy, focal loss, label smoothing and squared error lead to almost the same collapsed features, and "
        "to the same test accuracy once networks are large and trained long.",
        "L4, are all losses created equal, informal theorem and figures of parts III and IV",
    ),
    Statement(
        "N8",
        "A fixed simplex in place of the classifier saves up to 53 % of the parameters, a last layer of d = K up to "
        "21 % more, with accuracy on par.",
        "Q21, implications for practical network training, and fixed classifier with d = K; L4, exploit NC",
    ),
    Statement(
        "N9",
        "Maximal coding rate reduction spreads each class over a subspace of dimension d/K, orthogonal to the others, "
        "where cross-entropy collapses it to a point.",
        "Q21, comparisons to MCR2",
    ),
    Statement(
        "N10",
        "Under squared error, features form an orthogonal frame without a bias and a simplex with a free one; a "
        "regularised bias leads between.",
        "TB, theorems 3.1 and 3.2, remark of section 3.2, figures 2 and 3",
    ),
    Statement(
        "N11",
        "With a second layer of weights both levels of features collapse in the linear model; with ReLU the deeper one "
        "must.",
        "TB, theorems 4.1 and 4.2, figures 4, 5 and 9",
    ),
    Statement(
        "N12",
        "Of fixed features perturbed around a collapsed frame, the classifier keeps its direction, attenuated.",
        "TB, theorem 5.1",
    ),
    Statement(
        "N13",
        "Collapse over depth of the extended model with ReLU, and not that of the linear one, resembles that of a "
        "trained network.",
        "TB, section 6, figures 5 to 8",
    ),
    Statement(
        "N14",
        "With features and classifiers on spheres only collapse is globally optimal, and every other critical point is "
        "a strict saddle.",
        "YN, theorems 3.1 and 3.2",
    ),
    Statement("N15", "Normalised features learn better representations faster.", "YN, abstract"),
    Statement(
        "N16",
        "Variability falls from layer to layer, and the logarithm of the separation about linearly.",
        "L6, progressive separation, figure of progressive collapse; TB, figures 6 to 8",
    ),
    Statement(
        "T1",
        "The more the features of a pretrained network collapse on other data, the higher its accuracy there.",
        "L6, more variability collapse, better transfer performance",
    ),
    Statement(
        "T2",
        "Fine-tuning one layer beside skip connections comes near to fine-tuning all, with 7 to 8 % of the parameters, "
        "and far above linear probing.",
        "L6, table of transfer accuracies",
    ),
    Statement("T3", "It overfits small data less than fine-tuning all.", "L6, less overfitting"),
    Statement("T4", "The fine-tuning methods differ in which layers collapse.", "L6, layer-wise NC1 of fine-tuning"),
    Statement(
        "R1", "A network trained to collapse overfits wrong labels.", "L4, NC leads to overfitting to corruptions"
    ),
    Statement(
        "R2",
        "In a linear model, sparse over-parameterisation with a small start solves the convex program of its rate "
        "ratio; incoherent designs are recovered exactly.",
        "L4, a sparse over-parameterization method, informal theorem",
    ),
    Statement(
        "R3",
        "Sparse over-parameterisation beats cross-entropy and other robust methods under wrong labels, flipped and "
        "human.",
        "L4, SOP on CIFAR-10 with human annotated noisy labels, table",
    ),
    Statement(
        "P1",
        "In a deep linear network each weight is updated within a fixed subspace of dimension 2r; the rest stays a "
        "shrinking multiple of an orthogonal matrix.",
        "L6, law of parsimony, theorem (Yaras et al. 2023), cases 1 and 2",
    ),
    Statement(
        "P2",
        "The law persists approximately for data that are not whitened and with momentum.",
        "L6, figures of singular values without whitened data and with momentum",
    ),
    Statement(
        "P3",
        "From one layer to the next the separation D falls at least by the factor 2 (sqrt(K) + 1) eps^2.",
        "L6, progressive feature separation, theorem (Wang et al. 2023)",
    ),
    Statement(
        "P4",
        "The scale eps of the start trades decay of D against speed of training; orthogonal starts are not critical.",
        "L6, figures after the theorem; is the orthogonal initialization critical",
    ),
    Statement(
        "P5",
        "Descent on the compressed factors follows that on the full ones.",
        "L6, efficient deep matrix completion, claim",
    ),
    Statement(
        "P6",
        "Completing a matrix from some entries needs a small rate on the outer factors of the compressed network.",
        "L6, efficient deep matrix completion, remedy of discrepant learning rates",
    ),
    Statement(
        "P7",
        "A step costs O(L d) in place of O(L d^2), and the compressed network beats a narrow one of the same width.",
        "L6, efficient deep matrix completion, comparisons",
    ),
    Statement(
        "P8",
        "Depth lowers the sample complexity and overfitting; width speeds up convergence.",
        "L6, efficient deep matrix completion, benefits of depth and of width",
    ),
    Statement(
        "K1",
        "Separation, curvature and clover number describe how hard two curves are to tell apart.",
        "L4, intrinsic structural properties I to III",
    ),
    Statement(
        "K2",
        "As width grows, the tangent kernel of a ReLU network concentrates about a function of the angle.",
        "L4, resource trade-offs II: width as a statistical resource",
    ),
    Statement(
        "K3",
        "The kernel decays with the angle, the faster the deeper the network.",
        "L4, roles of width, depth and data, figures of L = 5, 25, 125, 625",
    ),
    Statement(
        "K4",
        "Deeper networks admit smaller certificates, and the error of descent falls as L log(L) / t.",
        "L4, informal lemma on certificates; resource trade-offs I: certificates from depth",
    ),
    Statement(
        "K5",
        "How many samples are needed grows with the aperture of the kernel, which geometry sets through depth.",
        "L4, resource trade-offs III: data as a statistical resource",
    ),
    Statement(
        "K6",
        "Gradient descent from a random start labels both curves perfectly once depth, width and samples suffice.",
        "L4, theorem (Buchanan, Wang, Gilboa, Wright 2021); vignette on gravitational waves",
    ),
    Statement(
        "X1",
        "From some number of classes on, a collapsed deep ReLU chain is no longer optimal: chains of lower rank are.",
        "beyond the sources; shown by sukenik2024neural",
    ),
)
