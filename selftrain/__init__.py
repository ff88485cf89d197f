"""What a person calls: the command `selftrain`, one module for each of its words, and from Python
`fit_folder`, which does the same."""

from selftrain.fit import Fitted, Prediction, fit_folder

__all__ = ["Fitted", "Prediction", "fit_folder"]
