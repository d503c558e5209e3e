"""One person of the generator: physiology that his windows share. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.tasks.synthetic import parameters as p


def draw(rng: np.random.Generator, span: p.Range, size: int | tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """Uniform draws from a range of the parameter table."""
    return np.asarray(rng.uniform(span.low, span.high, size))


def near(rng: np.random.Generator, centre: float, span: p.Range, n: int, spread: float = 0.12) -> NDArray[np.float64]:
    """`n` values around a person's own value, `spread` of the range wide, inside the range."""
    return np.clip(centre + rng.normal(0.0, spread * (span.high - span.low), n), span.low, span.high)


@dataclass(frozen=True)
class Person:
    """Rates in bpm, times in seconds, the rest shares; one value a person, windows vary around it."""

    mix: NDArray[np.float64]
    sinus_bpm: float
    af_bpm: float
    af_cv: float
    vt_bpm: float
    svt_bpm: float
    respiration_hz: float
    rsa_share: float
    pvc_coupling: float
    pac_coupling: float
    pvc_strength: float
    ejection_s: float
    windkessel_s: float
    reflection: float
    reflection_delay_s: float
    dicrotic: float
    dicrotic_delay_s: float
    filling_s: float
    filling_start_s: float
    high_pass_hz: float
    low_pass_hz: float
    zero_phase: bool
    noise: float


def person(rng: np.random.Generator) -> Person:
    """Draw one person."""

    def one(span: p.Range) -> float:
        return float(draw(rng, span))

    return Person(
        mix=rng.dirichlet(p.SUBJECT_CONCENTRATION * np.array(p.PREVALENCE)),
        sinus_bpm=one(p.SINUS_BPM),
        af_bpm=one(p.AF_BPM),
        af_cv=one(p.AF_CV),
        vt_bpm=float(rng.triangular(*p.VT_BPM)),
        svt_bpm=float(rng.triangular(*p.SVT_BPM)),
        respiration_hz=one(p.RESPIRATION_HZ),
        rsa_share=one(p.RSA_SHARE),
        pvc_coupling=one(p.PVC_COUPLING),
        pac_coupling=one(p.PAC_COUPLING),
        pvc_strength=one(p.PVC_STRENGTH),
        ejection_s=one(p.EJECTION_S),
        windkessel_s=one(p.WINDKESSEL_S),
        reflection=one(p.REFLECTION),
        reflection_delay_s=one(p.REFLECTION_DELAY_S),
        dicrotic=one(p.DICROTIC),
        dicrotic_delay_s=one(p.DICROTIC_DELAY_S),
        filling_s=one(p.FILLING_S),
        filling_start_s=one(p.FILLING_START_S),
        high_pass_hz=one(p.HIGH_PASS_HZ),
        low_pass_hz=one(p.LOW_PASS_HZ),
        zero_phase=bool(rng.random() < 0.5),
        noise=float(np.exp(rng.normal(0.0, 0.4))),
    )
