"""Where the stages' outputs lie in the repository, in one place."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.files import file_digest, remove_partials, stage_json, value_digest

STATE = Path(".selftrain")  # under the root: what no stage's output depends on
BY_MODEL = (
    *("models", "evaluations", "audits", "curves", "confusions"),
    *("predictions", "pseudo_labels"),
    *("metrics/evaluate", "metrics/select", "metrics/guard"),
)


DATASET = "dataset.json"
NOT_PREPARED = "not as prepare writes it; run the stage prepare again"


@dataclass(frozen=True)
class Layout:
    """The paths under `root` that dvc.yaml names."""

    root: Path

    @property
    def prepared(self) -> Path:
        """Holds labeled/, unlabeled/, validation/, test/ and dataset.json."""
        return self.root / "prepared"

    @property
    def quarantine(self) -> Path:
        """The table of what is not used, and why."""
        return self.prepared / "quarantine.parquet"

    def _dataset(self) -> dict[str, Any]:
        value = stage_json(self.prepared / DATASET)
        return value if isinstance(value, dict) else {}

    @property
    def classes(self) -> list[str]:
        """The classes' names, in the order of the labels; raises DataError."""
        names = self._dataset().get("classes")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{self.prepared / DATASET}: {NOT_PREPARED}")
        return names

    @property
    def image_size(self) -> int:
        """Side of the stored images, pixels; raises DataError."""
        side = self._dataset().get("image_size")
        if type(side) is not int or side < 1:
            raise DataError(f"{self.prepared / DATASET}: {NOT_PREPARED}")
        return side

    @property
    def folds(self) -> int | None:
        """The parts of the cross-validation (data.folds), None where images are held out."""
        number = self._dataset().get("folds")
        if number is not None and (type(number) is not int or number < 2):
            raise DataError(f"{self.prepared / DATASET}: {NOT_PREPARED}")
        return number

    @property
    def body(self) -> Path:
        """The frozen body that made the features, a model folder; absent without `embed.source`."""
        return self.root / "features" / "body"

    def features(self, part: str) -> Path:
        """What the frozen body makes of the images of prepared/`part`."""
        return self.root / "features" / part

    def model(self, generation: str) -> Path:
        """A model's folder."""
        return self.root / "models" / generation

    def predictions(self, generation: str) -> Path:
        """What the teacher of `generation` thinks of the unlabelled images."""
        return self.root / "predictions" / generation

    def pseudo_labels(self, generation: str) -> Path:
        """The selected among them."""
        return self.root / "pseudo_labels" / generation

    def audit(self, generation: str) -> Path:
        """What the selection is worth, as JSON."""
        return self.root / "audits" / f"{generation}.json"

    def evaluation(self, generation: str) -> Path:
        """A model's results and probabilities on validation and test."""
        return self.root / "evaluations" / generation

    def curves(self, generation: str) -> Path:
        """A training run's losses and validations by step, as CSV files."""
        return self.root / "curves" / generation

    def confusion(self, generation: str) -> Path:
        """The class and the prediction of each test image as CSV."""
        return self.root / "confusions" / f"{generation}.csv"

    @property
    def program(self) -> Path:
        """Digests of the code that makes each stage's outputs, as the stage scan saw it."""
        return self.root / "program.json"

    @property
    def source(self) -> Path:
        """What the source's files are, as the stage scan saw them."""
        return self.root / "source.json"

    def listing(self, source: str) -> Path:
        """What is remembered of the files of the source at this path."""
        return self.root / STATE / "scan" / f"{value_digest(source)[:16]}.parquet"

    @property
    def choices(self) -> Path:
        """What the stage search chose before anything is trained, as JSON."""
        return self.root / "choices.json"

    @property
    def ensemble(self) -> Path:
        """The ensemble's figures and the champion, as JSON."""
        return self.root / "ensemble.json"

    @property
    def label_issues(self) -> Path:
        """Labelled images that the ensemble contradicts, as CSV."""
        return self.root / "label_issues.csv"

    def labeled_predictions(self, generation: str) -> Path:
        """What a model thinks of the labelled images."""
        return self.evaluation(generation) / "labeled"

    @property
    def report(self) -> Path:
        """The folder of the report's page."""
        return self.root / "report"

    def metrics(self, stage: str, generation: str | None = None) -> Path:
        """A stage's metrics file."""
        folder = self.root / "metrics"
        return (
            folder / f"{stage}.json"
            if generation is None
            else folder / stage / f"{generation}.json"
        )

    def data_digests(self, *parts: str) -> dict[str, str]:
        """Digests of dataset.json and of the named prepared folders."""
        from pipeline.data.shards import manifest_digest  # pyarrow takes a while to import

        digests = {part: manifest_digest(self.prepared / part) for part in parts}
        stage_json(self.prepared / "dataset.json")
        return digests | {"dataset": file_digest(self.prepared / "dataset.json")}

    def remove_leftovers(self, models: Collection[str]) -> None:
        """Remove what models that params.yaml no longer names have left in the folders.

        DVC keeps its copies. Stages that read a whole folder would otherwise count it.
        """
        for folder in BY_MODEL:
            for path in (self.root / folder).glob("[0-9]*"):
                name = path.name if path.is_dir() else path.stem
                if name not in models:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove_partials(self) -> None:
        """Remove what stages that were killed have left half written beside their outputs."""
        remove_partials(self.root)
        for folder in ("prepared", "features", "metrics", "report", *BY_MODEL, "curves/*"):
            for path in self.root.glob(folder):
                remove_partials(path)

    def digests_of(self, **folders: Path) -> dict[str, str]:
        """Digests of folders of shards, by name."""
        from pipeline.data.shards import manifest_digest

        return {name: manifest_digest(folder) for name, folder in folders.items()}

    def evaluation_digest(self, generation: str) -> str:
        """One digest of everything in a model's evaluation."""
        folder = self.evaluation(generation)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return value_digest({str(file.relative_to(folder)): file_digest(file) for file in files})

    def lineage(self, name: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
        """Key and name of all runs on the same prepared data with the same parameters."""
        data = self.data_digests("labeled", "unlabeled", "validation", "test")
        digest = value_digest([data, dict(parameters)])
        return digest, f"{name} {digest[:8]}"
