"""Handwritten digits with 50 labels: our generations beside scikit-learn's, seed by seed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.in_process import Images


def digits(seed: int, num_labels: int, image_size: int) -> Images:
    """Halves by seed, stratified: `num_labels` of the first labelled, the second tested on."""
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    grey = np.round(pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    resized = np.stack(
        [
            np.asarray(Image.fromarray(i).resize((image_size,) * 2, Image.Resampling.BILINEAR))
            for i in grey
        ]
    )
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=seed
    )
    labeled, unlabeled = train_test_split(
        train, train_size=num_labels, stratify=labels[train], random_state=seed
    )

    def tensor(rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(resized[rows][:, None])

    return Images(
        tensor(labeled),
        torch.from_numpy(labels[labeled].astype(np.int64)),
        tensor(unlabeled),
        tensor(test),
        torch.from_numpy(labels[test].astype(np.int64)),
        tuple(str(digit) for digit in range(10)),
    )
