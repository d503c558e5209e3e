"""Search spaces: YAML -> choices -> NNI search space -> `Candidate`. Reads YAML; no torch."""

from hwnas.space.choices import Candidate, SearchSpace, names, read

__all__ = ["Candidate", "SearchSpace", "names", "read"]
