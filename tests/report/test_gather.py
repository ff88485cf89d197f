"""What the report takes from the files of a run."""

from pathlib import Path

from pipeline.report.gather import training_curve
from pipeline.train.history import Point, write_curves


def test_a_model_without_pseudo_labels_has_no_loss_on_them(tmp_path: Path) -> None:
    losses = {"loss": 2.0, "loss_labeled": 2.0, "loss_pseudo": 0.0, "learning_rate": 0.1}
    write_curves(tmp_path, [Point(10, losses), Point(20, losses | {"val/accuracy": 0.5})])
    assert training_curve(tmp_path, taught=False).loss_pseudo == ()
    assert training_curve(tmp_path, taught=True).loss_pseudo == (0.0, 0.0)
    assert training_curve(tmp_path, taught=False).loss_labeled == (2.0, 2.0)
