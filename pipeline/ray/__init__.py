"""Work on many processors and nodes: passes by Ray Data, training by Ray Train. Only this package
imports Ray, as `import ray`, inside the functions that need it."""
