"""The stages of a run, each a function over the run directory: data, gate, teacher, search, finished students, front, report."""
