"""Train a generation's student on the labelled and the pseudo-labelled images."""

from pipeline.workflow.stage import run_stage
from stages.train_teacher import train

if __name__ == "__main__":
    run_stage("train_student", train, models="ensemble")
