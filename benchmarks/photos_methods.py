"""What is compared on photographs: our generations, their control, and scikit-learn's methods."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.params import Params
from pipeline.self_training.loop import Features, Images, self_train, train_control, try_modes
from pipeline.train.head import choose_l2

Accuracies = dict[str, float]
CONTROL = "longer"  # of presets/photographs.yaml
NEIGHBORS = 20  # of 7 and 20 the better one on two splits that are not reported


def mode(images: Images, features: Features, params: Params) -> dict[str, Any]:
    """What the labels say students are to be."""
    trial = try_modes(images, params, features=features)
    return vars(trial) | {"mode": trial.mode}


def generations(images: Images, features: Features | None, params: Params) -> Accuracies:
    """Test accuracy of each generation."""
    found = self_train(images, params, features=features)
    return {f"generation {key}": part.test_accuracy for key, part in enumerate(found)}


def control(images: Images, params: Params) -> Accuracies:
    """Test accuracy of as many steps on the labels alone."""
    return {"control": train_control(images, params, CONTROL).test_accuracy}


def peers(images: Images, features: Features, seed: int) -> Accuracies:
    """Test accuracy of scikit-learn's self-training methods on the same features.

    LabelSpreading sees them at unit length, which is better for it than standardised; the logistic
    regression that trains itself sees them standardised, its C chosen as ours is.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler
    from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

    labels = images.labels.numpy()
    l2 = choose_l2(features.labeled, labels, len(images.classes), seed=seed).l2
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=1 / l2, max_iter=1000))
    spreading = LabelSpreading(kernel="knn", n_neighbors=NEIGHBORS, max_iter=100)
    models = {
        "LabelSpreading": make_pipeline(Normalizer(), spreading),
        "SelfTrainingClassifier": SelfTrainingClassifier(logistic),
    }
    targets = np.concatenate([labels, np.full(len(features.unlabeled), -1)])
    train = np.concatenate([features.labeled, features.unlabeled]).astype(np.float32)
    test, truth = features.test.astype(np.float32), images.test_labels.numpy()
    return {name: _accuracy(model, train, targets, test, truth) for name, model in models.items()}


def _accuracy(
    model: Any,
    train: NDArray[np.float32],
    targets: NDArray[np.int64],
    test: NDArray[np.float32],
    truth: NDArray[np.int64],
) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float((model.fit(train, targets).predict(test) == truth).mean())
