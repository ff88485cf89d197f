"""What a person calls: the command `selftrain`, one module for each of its words."""
