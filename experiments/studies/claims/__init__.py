"""The tutorial's four claims about momentum, each put to a measured test."""

from experiments.studies.claims.study import Claims, claims

__all__ = ["Claims", "claims"]
