"""Running the pipeline on a Ray cluster."""
