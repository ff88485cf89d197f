"""The parameters of a run: typed, checked before any work, and read from params.yaml only here."""

from pipeline.params.augment import AugmentParams, Operation, SearchParams
from pipeline.params.checks import Training
from pipeline.params.embed import EmbedParams
from pipeline.params.load import PARAMS_FILE, load_params, parse_params
from pipeline.params.network import ModelParams, NetworkParams
from pipeline.params.run import Generation, Params, TrainingOverrides
from pipeline.params.sections import (
    ControlParams,
    DataParams,
    EnsembleParams,
    EvaluateParams,
    GuardParams,
    PredictParams,
    PropagationParams,
    Section,
    SelectParams,
    TrackingParams,
    ViewParams,
)
from pipeline.params.storage import StorageParams
from pipeline.params.throughput import RunParams
from pipeline.params.training import OnlineParams, TrainParams
from pipeline.params.transfer import TransferParams

__all__ = [
    "PARAMS_FILE",
    "AugmentParams",
    "ControlParams",
    "DataParams",
    "EmbedParams",
    "EnsembleParams",
    "EvaluateParams",
    "Generation",
    "GuardParams",
    "ModelParams",
    "NetworkParams",
    "OnlineParams",
    "Operation",
    "Params",
    "PredictParams",
    "PropagationParams",
    "RunParams",
    "SearchParams",
    "Section",
    "SelectParams",
    "StorageParams",
    "TrackingParams",
    "TrainParams",
    "Training",
    "TrainingOverrides",
    "TransferParams",
    "ViewParams",
    "load_params",
    "parse_params",
]
