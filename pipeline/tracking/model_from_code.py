"""The model that MLflow logs: image bytes in, class names with probabilities out, or masks.

MLflow runs this file to make the model ("models from code"); its weights are the classifier
folder logged beside it. Torch is imported only when a model is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from pipeline.errors import DataError


class Classifier(PythonModel):
    """Answers images given as bytes, or as base64 text, in a column `image`."""

    def load_context(self, context: Any) -> None:
        """Load the classifier that was logged with the model."""
        from pipeline.evaluate.classifier import load_classifier

        self.classifier = load_classifier(Path(context.artifacts["classifier"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row an image: label, confidence, `probability_<class>` of each class, and error; of
        masks the PNG as base64 text and `share_<class>` instead."""
        from pipeline.evaluate.classify import classify

        try:
            return classify(self.classifier, model_input)
        except DataError as error:  # a model server answers this one with 400
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


mlflow.models.set_model(Classifier())
