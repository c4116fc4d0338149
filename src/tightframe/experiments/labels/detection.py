"""Confident learning by cleanlab, on the samples and labels that a trial is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tightframe.runs.record import Cell
from tightframe.trials.trial import TrialConfig, read_data

_FOLDS = 5


def confident_learning(config: TrialConfig, data_root: Path | None) -> dict[str, Cell]:
    """Precision and recall of the labels it believes wrong, from out-of-sample probabilities of logistic regression.

    Args:
        config: Names data, noise and seed.
        data_root: Folder of the data sets.

    Returns:
        "precision", "recall" and "noise AUC" of 1 - p(label); None each where no label is wrong or cleanlab is not
        installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return {"noise AUC": None, "precision": None, "recall": None}
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    labelled = read_data(config, data_root)
    train, wrong = labelled.data.train, labelled.flipped.numpy()
    if not wrong.any():
        return {"noise AUC": None, "precision": None, "recall": None}
    pixels = np.stack([np.asarray(train[index][0]).ravel() for index in range(len(train))])
    given = train.labels.numpy()
    model = LogisticRegression(max_iter=1000)
    shares = cross_val_predict(model, pixels, given, cv=_FOLDS, method="predict_proba")
    flagged = find_label_issues(given, shares, n_jobs=1)
    hits = int((flagged & wrong).sum())
    return {
        "noise AUC": float(roc_auc_score(wrong, 1 - shares[np.arange(len(given)), given])),
        "precision": hits / int(flagged.sum()) if flagged.any() else None,
        "recall": hits / int(wrong.sum()),
    }
