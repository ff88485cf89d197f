"""Train generation 0 once more on the labels alone, for as many steps as `controls` says."""

from pipeline.workflow.stage import run_stage
from stages.train_teacher import train

if __name__ == "__main__":
    run_stage("train_control", train, models="controls")
