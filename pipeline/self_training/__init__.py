"""The steps of a generation, and the whole loop over tensors; without stages and engines."""
