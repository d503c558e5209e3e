"""The signal generator: PPG windows of six rhythms, deterministic by seed. Numpy only; touches no files."""
