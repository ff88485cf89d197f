"""Self-training of tensors in one process, without stages and without engines."""
