"""Every physiological and sensor figure of the sleep generator, with its source. Pure data.

Set from the sources below before any network saw a night. Sources seldom print one figure for each stage: where they give the
direction only, the size is chosen and says so.

Sources
    CHAIN  Metzner et al., "Sleep as a random walk: a super-statistical analysis of EEG data across sleep stages", Commun Biol 2021,
           4:1385: counted transitions between 30 s epochs; the counts stand in YASA's `simulate_hypnogram` (Vallat and Walker 2021)
    KEMP   Kemp and Kamphuisen, "Simulation of human hypnograms using a Markov chain model", Sleep 1986, 9:405: rates that differ
           between people and over the night reproduce nights, constant ones do not
    NORMAL Carskadon and Dement, "Normal human sleep: an overview": deep sleep in the first third, REM sleep in the last, the first
           REM episode 80 to 100 min after sleep onset
    HRV    Task Force of ESC and NASPE, "Heart rate variability: standards of measurement", Circulation 1996, 93:1043, supine rest:
           total power 3466, LF (0.04-0.15 Hz) 1170, HF (0.15-0.4 Hz) 975 ms^2
    STAGE  Boudreau et al., "Circadian variation of heart rate variability across sleep stages", Sleep 2013, 36:1919: deeper sleep is
           more parasympathetic, REM sleep more sympathetic; heart rate follows the clock
    PENZEL Penzel et al., "Dynamics of heart rate and sleep stages in normals and patients with sleep apnea", Neuropsychopharmacology
           2003, 28:S48, and Bunde et al., Phys Rev Lett 2000, 85:3736: slow correlations awake and in REM sleep, hardly any in deep sleep
    BREATH Gutierrez et al., "Respiratory rate variability in sleeping adults without obstructive sleep apnea", Physiol Rep 2016,
           4:e12949; Cabiddu et al., Front Physiol 2012, 3:45: most regular in deep sleep, irregular awake and in REM sleep
    RATE   Douglas et al., "Respiration during sleep in normal man", Thorax 1982, 37:840: asleep faster and shallower than awake
    MOVE   Wilde-Frenz and Schulz, "Rate and distribution of body movements during sleep in humans", Percept Mot Skills 1983, 56:275:
           most awake and in light sleep, fewest in deep sleep
    AROUSE Sforza et al., "Cardiac activation during arousal in humans", Clin Neurophysiol 2000, 111:1611: the heart speeds up with a
           movement and recovers within about 10 s
    ECGSYN McSharry et al., "A dynamical model for generating synthetic ECG signals", IEEE TBME 2003, 50:289
    EDR    Moody et al., "Derivation of respiratory signals from multi-lead ECGs", Comput Cardiol 1985, 12:113
    BCG    Inan et al., "Ballistocardiography and seismocardiography: a review of recent advances", IEEE JBHI 2015, 19:1414;
           Sadek et al., "Ballistocardiogram signal processing: a review", Health Inf Sci Syst 2019, 7:10
    chosen set by judgement, wide enough that real beds and people lie inside
"""

from __future__ import annotations

from typing import NamedTuple

from hwnas.tasks.synthetic.parameters import Range

STAGES = ("wake", "light", "deep", "rem")
WAKE, LIGHT, DEEP, REM = range(4)
EPOCH_S = 30.0  # the unit that stages are scored in
EPOCHS = 960  # chosen: 8 h in bed

# CHAIN: transitions from (row) to (column) stage, stages 1 and 2 joined as light
TRANSITIONS = (
    (11737, 655, 2, 2),
    (534, 35687, 516, 331),
    (49, 455, 9630, 12),
    (57, 273, 2, 10071),
)
NIGHT_TREND = 3.0  # KEMP, NORMAL: deep sleep is entered 3 times as often at first and a third as often at last, REM the reverse; chosen
FIRST_REM_S = 3600.0  # NORMAL
PERSON_RATES = 0.25  # KEMP: people differ; log-normal deviation of their rates of entering a stage, chosen


class Stage(NamedTuple):
    """What a stage does to heart and breath; `hf`, `lf` and `vlf` are relative to lying awake."""

    bpm: float
    hf: float
    lf: float
    vlf: float
    breath: float
    irregular: float
    moves_per_h: float


# Directions: STAGE (bpm, hf, lf), PENZEL (vlf), RATE (breath), BREATH (irregular), MOVE; sizes chosen.
BY_STAGE = (
    Stage(bpm=6.0, hf=1.0, lf=1.0, vlf=1.0, breath=1.0, irregular=0.2, moves_per_h=45.0),
    Stage(bpm=0.0, hf=1.1, lf=0.8, vlf=0.5, breath=1.05, irregular=0.09, moves_per_h=6.0),
    Stage(bpm=-1.0, hf=1.2, lf=0.45, vlf=0.2, breath=1.05, irregular=0.04, moves_per_h=1.0),
    Stage(bpm=3.0, hf=0.75, lf=1.05, vlf=0.9, breath=1.1, irregular=0.18, moves_per_h=6.0),
)
STAGE_SETTLES_S = 15.0  # chosen: time constant with which heart and breath follow a change of stage

# Heart; shares are standard deviations of the rate over its mean
LIGHT_BPM = Range(48.0, 72.0, "book: sleeping adults")
NIGHT_DECLINE_BPM = Range(0.0, 6.0, "STAGE: falls over the night, size chosen")
HF_SHARE = 0.034  # HRV: sqrt(975) ms at 0.92 s
LF_SHARE = 0.037  # HRV: sqrt(1170) ms
VLF_SHARE = 0.040  # HRV: sqrt(3466 - 1170 - 975) ms
PERSON_SHARE = 0.3  # chosen: log-normal deviation between people
LF_HZ = (0.04, 0.15)  # HRV
VLF_HZ = (0.003, 0.04)  # HRV
RATE_LIMITS_BPM = (36.0, 130.0)  # chosen
AROUSAL_BPM = Range(4.0, 14.0, "AROUSE, size chosen")
AROUSAL_S = 8.0  # AROUSE

# Breath
BREATH_HZ = Range(0.2, 0.3, "book: 12 to 18 a minute")
BREATH_DRIFT_S = 8.0  # chosen: how long a change of rate or depth lasts, about two breaths

# ECG
WAVES = {  # ECGSYN: (angle in degrees, a, b) of its table, the R wave at 0
    "p": (-70.0, 1.2, 0.25),
    "q": (-15.0, -5.0, 0.1),
    "r": (0.0, 30.0, 0.1),
    "s": (15.0, -7.5, 0.1),
    "t": (100.0, 0.75, 0.4),
}
WAVE_SPREAD = 0.25  # chosen: log-normal deviation of the waves' sizes between people
ECG_BREATH_AMPLITUDE = Range(0.03, 0.15, "EDR: R waves change with the chest, size chosen")
ECG_BREATH_BASELINE = Range(0.0, 0.15, "ECGSYN: baseline moves with the breath; of an R wave")
ECG_NOISE = Range(0.005, 0.03, "chosen: of an R wave")
ECG_MOVEMENT = Range(0.05, 0.6, "chosen: of an R wave")

# BCG: the beat as it arrives at the bed
RJ_S = Range(0.18, 0.28, "BCG: R wave to J wave")
IJK_HZ = Range(4.0, 7.0, "BCG: main oscillation, energy within 1-10 Hz")
IJK_WIDTH_S = Range(0.06, 0.11, "chosen: standard deviation of its envelope")
RINGING = Range(0.2, 0.7, "BCG: L, M, N waves over the J wave, size chosen")
RINGING_HZ = Range(2.5, 5.0, "chosen")
RINGING_S = Range(0.08, 0.25, "chosen: decay")
BCG_BREATH_AMPLITUDE = Range(0.1, 0.4, "BCG: beats change with the breath, size chosen")
BEAT_SPREAD = 0.12  # chosen: deviation from beat to beat
BCG_JITTER_S = 0.006  # BCG: pre-ejection time from beat to beat, size chosen
POSTURES = 4  # chosen: ways of lying, each with a wave shape and a strength of its own
POSTURE_SPREAD = 0.3  # chosen: log-normal deviation of the strength
TURN_SHARE = 0.3  # chosen: movements that change the posture
BCG_BREATH_BASELINE = Range(0.1, 0.6, "chosen: what a sensor's high-pass leaves; of a J wave")
BCG_MOVEMENT = Range(2.0, 10.0, "BCG: movements are many times a beat, size chosen")
MOVEMENT_S = Range(1.0, 12.0, "chosen")
MOVEMENT_HZ = (0.5, 8.0)  # chosen
BCG_NOISE_HZ = (0.8, 12.0)  # BCG: band of the beat, where a filter cannot remove it
# Standard deviation of the noise over that of the beats, log-normal with a deviation of BCG_NOISE_SPREAD over windows; chosen
BCG_NOISE = {"low": 0.1, "medium": 0.5, "high": 1.5}
BCG_NOISE_SPREAD = 0.4
