"""Every physiological and sensor range of the generator, with its source. Pure data.

Set from the sources below and from how recordings look (rates, spectrum, wave shape), never from how a network scores on them.

Sources
    HRV    Task Force of ESC and NASPE, "Heart rate variability: standards of measurement", Circulation 1996, 93:1043:
           LF 0.04-0.15 Hz, HF (respiratory) 0.15-0.4 Hz
    ECGSYN McSharry et al., "A dynamical model for generating synthetic ECG signals", IEEE TBME 2003, 50:289: RR with an LF
           and an HF line; here over 1/f noise
    AF     Hindricks et al., ESC guidelines on atrial fibrillation, Eur Heart J 2021, 42:373: irregularly irregular RR intervals,
           lenient rate control below 110 bpm
    AVNODE Cohen et al., "A quantitative model for the ventricular response during AF", IEEE TBME 1983, 30:769: random atrial
           impulses behind a refractory AV node
    SVT    Brugada et al., ESC guidelines on supraventricular tachycardia, Eur Heart J 2020, 41:655: above 100 bpm at rest
    VA     Zeppenfeld et al., ESC guidelines on ventricular arrhythmias, Eur Heart J 2022, 43:3997: VT is 3 or more
           beats above 100 bpm
    PPGAF  Solosenko et al., "Modeling of the photoplethysmogram during AF", Comput Biol Med 2017, 81:130: pulse trains from RR
           intervals, weak premature pulses
    PPG    Allen, "Photoplethysmography and its application", Physiol Meas 2007, 28:R1: pulse shape, respiratory and
           slow components
    WK     Westerhof et al., "The arterial Windkessel", Med Biol Eng Comput 2009, 47:131: exponential diastolic decay
    book   textbook range of clinical electrocardiography, no single figure
    chosen a spread set by judgement, wide enough that real devices and people lie inside
"""

from __future__ import annotations

from typing import NamedTuple

RHYTHMS = ("sinus", "pvc", "pac", "vt", "svt", "af")
SINUS, PVC, PAC, VT, SVT, AF = range(6)
PREVALENCE = (0.35, 0.13, 0.13, 0.08, 0.08, 0.23)  # chosen: every class trainable
SUBJECT_CONCENTRATION = 3.0  # chosen: Dirichlet; persons differ strongly in their mix of rhythms


class Range(NamedTuple):
    """Uniform between `low` and `high`."""

    low: float
    high: float
    source: str


# Sinus rhythm and what modulates it
SINUS_BPM = Range(50.0, 98.0, "book: 50-100 at rest")
SINUS_BPM_WITHIN = Range(-6.0, 6.0, "chosen: windows of one person")
RESPIRATION_HZ = Range(0.15, 0.4, "HRV: HF band")
MAYER_HZ = Range(0.07, 0.14, "HRV: LF band")
RSA_SHARE = Range(0.002, 0.03, "HRV: RMSSD 27 (12) ms at rest, less in patients")
MARKED_RSA_SHARE = Range(0.08, 0.18, "book: sinus arrhythmia, RR differs by more than 120 ms")
LF_SHARE = Range(0.002, 0.02, "ECGSYN")
PINK_SHARE = Range(0.002, 0.015, "HRV: 1/f component")

# Ectopy: coupling is the premature interval over the normal one
PVC_COUPLING = Range(0.45, 0.8, "book")
PVC_STRENGTH = Range(0.25, 0.9, "PPGAF: ineffective contraction, weak pulse")
PAC_COUPLING = Range(0.45, 0.85, "book")
PAC_STRENGTH = Range(0.75, 1.0, "PPGAF")
PAC_RESET = Range(0.98, 1.25, "book: sinus node is reset, pause less than compensatory")
BLOCKED_PAC = Range(1.35, 1.85, "book: not conducted, pause below two cycles")
ECTOPIC_RATE = Range(0.03, 0.3, "chosen: share of ectopic beats")

# Tachycardias
VT_BPM = (105.0, 165.0, 215.0)  # VA: above 100; triangular
SVT_BPM = (100.0, 118.0, 200.0)  # SVT: above 100 at rest; triangular
TACHY_CV = Range(0.002, 0.012, "book: regular")
VT_STRENGTH_CV = Range(0.03, 0.3, "book: AV dissociation varies the filling")
RUN_BEATS = (4, 40)  # VA: 3 beats and more

# Atrial fibrillation
AF_BPM = Range(58.0, 135.0, "AF: controlled to uncontrolled")
AF_BPM_WITHIN = Range(-15.0, 15.0, "chosen")
AF_CV = Range(0.13, 0.3, "PPGAF, AVNODE")
AF_REGULARISED_CV = Range(0.05, 0.11, "book: slow response under rate control")
AF_REFRACTORY_S = Range(0.28, 0.42, "AVNODE")
ATRIAL_CYCLE_S = Range(0.18, 0.28, "book: organised atrial activity of 210-330 per minute")

# Pulse wave
EJECTION_S = Range(0.035, 0.065, "PPG: width of the systolic wave, standard deviation")
WINDKESSEL_S = Range(0.8, 2.5, "WK: decay time of diastolic pressure")
REFLECTION = Range(0.1, 0.7, "PPG: second component over the first")
REFLECTION_DELAY_S = Range(0.14, 0.26, "PPG")
DICROTIC = Range(0.0, 0.3, "PPG: third component over the first")
DICROTIC_DELAY_S = Range(0.3, 0.42, "PPG")
FILLING_S = Range(0.15, 0.45, "PPGAF, WK: time constant of filling")
FILLING_START_S = Range(0.1, 0.24, "book: systole and relaxation, no filling")
ARRIVAL_JITTER_S = Range(0.001, 0.008, "chosen: pulse arrival from beat to beat")
ARRIVAL_FILLING_S = Range(0.0, 0.06, "book: pre-ejection grows when filling is short")

# Disturbances, relative to a normal pulse
RESPIRATORY_AMPLITUDE = Range(0.0, 0.15, "PPG")
RESPIRATORY_BASELINE = Range(0.0, 0.2, "PPG")
SLOW_BASELINE = Range(0.0, 0.3, "PPG: Mayer waves and slower")
TISSUE_NOISE = (-3.9, 0.7)  # chosen: log-normal, in the band of the pulse
SENSOR_NOISE = (-4.0, 0.8)  # chosen: log-normal, white
POOR_SHARE = 0.1  # chosen: windows with a badly fitting sensor
POOR_NOISE = Range(0.15, 0.6, "chosen")
MOTION_PER_S = 0.012  # chosen: bursts of motion a second
MOTION_STRENGTH = Range(0.3, 2.0, "chosen")
MOTION_S = Range(0.5, 4.0, "chosen")
MOTION_HZ = (0.6, 5.0)  # book: gait and arm motion
MISSED_SHARE = 0.06  # chosen: windows in which the sensor misses beats
MISSED_BEATS = Range(0.03, 0.15, "chosen")

# Sensor: band-pass as devices apply it
HIGH_PASS_HZ = Range(0.3, 0.6, "PPG: 0.1-0.5 Hz common")
LOW_PASS_HZ = Range(5.0, 12.0, "PPG: 8-15 Hz common")

# Kinds of windows inside a class: (name, share)
SINUS_KINDS = (("plain", 0.78), ("marked", 0.13), ("ectopic", 0.06), ("af_run", 0.03))
PVC_KINDS = (("single", 0.5), ("bigeminy", 0.14), ("trigeminy", 0.14), ("frequent", 0.22))
PAC_KINDS = (("single", 0.42), ("bigeminy", 0.08), ("frequent", 0.34), ("blocked", 0.16))
VT_KINDS = (("sustained", 0.55), ("run", 0.45))
SVT_KINDS = (("sustained", 0.85), ("run", 0.15))
AF_KINDS = (("irregular", 0.68), ("regularised", 0.12), ("organised", 0.1), ("partial", 0.1))
