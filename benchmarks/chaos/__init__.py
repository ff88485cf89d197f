"""Kill the stages at every file operation and at random moments, and compare what comes out."""
