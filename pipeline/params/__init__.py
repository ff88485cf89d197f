"""The parameters of a run: typed, checked before any work, and read from params.yaml only here."""

from pipeline.params.augment import AugmentParams, Operation, SearchParams
from pipeline.params.load import PARAMS_FILE, load_params, parse_params
from pipeline.params.network import ModelParams, NetworkParams
from pipeline.params.predict import EvaluateParams, PredictParams, PropagationParams, ViewParams
from pipeline.params.run import Generation, Params
from pipeline.params.sections import DataParams, RunParams, SelectParams
from pipeline.params.training import OnlineParams, Training, TrainParams
from pipeline.params.transfer import EmbedParams, TransferParams

__all__ = [
    "PARAMS_FILE",
    "AugmentParams",
    "DataParams",
    "EmbedParams",
    "EvaluateParams",
    "Generation",
    "ModelParams",
    "NetworkParams",
    "OnlineParams",
    "Operation",
    "Params",
    "PredictParams",
    "PropagationParams",
    "RunParams",
    "SearchParams",
    "SelectParams",
    "TrainParams",
    "Training",
    "TransferParams",
    "ViewParams",
    "load_params",
    "parse_params",
]
