"""Proposing, gating and scoring candidates: NNI tuners, the trial log, and the two drivers.

Light on purpose: a worker process imports this package before it has chosen what else to load.
"""
