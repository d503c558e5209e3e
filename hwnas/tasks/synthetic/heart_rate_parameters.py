"""Ranges of heart rate, motion and its leak into the PPG for the generator of `heart_rate`, with their sources. Pure data.

The pulse wave, the sensor and their disturbances at rest are those of `parameters`. Set from the sources below before any network was
trained on them, never from how one scores on recordings.

Sources
    AGE    Tanaka, Monahan and Seals, "Age-predicted maximal heart rate revisited", J Am Coll Cardiol 2001, 37:153: 208 - 0.7 age
    ACSM   American College of Sports Medicine, "Quantity and quality of exercise", Med Sci Sports Exerc 2011, 43:1334: shares of the heart
           rate reserve: very light below 30 %, light 30-39 %, moderate 40-59 %, vigorous 60-89 %
    KIN    Bunc, Heller and Leso, "Kinetics of heart rate responses to exercise", J Sports Sci 1988, 6:39: first-order rise with time
           constants of some 30 to 60 s
    REC    Pierpont, Stolpman and Gornick, "Heart rate recovery post-exercise as an index of parasympathetic activity", J Auton Nerv Syst
           2000, 80:169: exponential recovery, slower than the rise
    HRV    as in `parameters`; vagal withdrawal leaves a small part of the variability during hard exercise
    GAIT   Tudor-Locke et al., "How fast is fast enough? Walking cadence (steps/min) as a practical estimate of intensity in adults", Br J
           Sports Med 2018, 52:776: slow to brisk walking 80 to 130 steps a minute; running 150 to 190 (book)
    WRIST  Mannini et al., "Activity recognition using a single accelerometer placed at the wrist or ankle", Med Sci Sports Exerc 2013,
           45:2193: arm swing at half the step rate beside the steps; a fraction of g walking, one g and more running
    TROIKA Zhang, Pi and Liu, IEEE TBME 2015, 62:522: artefacts at the cadence and its harmonics, as strong as the pulse and stronger
    SEEN   how BAMI-1 and SPC 2015 look, without any network: the largest peak of the PPG's spectrum is within 3 BPM of the truth in half of
           the windows of walking and in half of running, in 1 to 9 of 10 windows of different persons, in 7 to 9 of 10 at rest; where it is
           not, 4 times in 5 it lies on a peak of the acceleration, half or twice one
    chosen a spread set by judgement, wide enough that real devices and people lie inside
"""

from __future__ import annotations

from typing import NamedTuple

from hwnas.tasks.synthetic.parameters import Range

# A person
AGE_YEARS = Range(18.0, 65.0, "chosen: adults")
RESTING_BPM = Range(48.0, 90.0, "book: 50-90 sitting or standing")
MAXIMUM_AT_BIRTH_BPM, MAXIMUM_PER_YEAR_BPM = 208.0, 0.7  # AGE
MAXIMUM_SPREAD_BPM = 8.0  # AGE: standard deviation between persons of 7 to 11
RISE_S = Range(20.0, 60.0, "KIN")
RECOVERY_S = Range(40.0, 110.0, "REC")

# Variability of the intervals, which falls in proportion to the share of the reserve that is used
HRV_LEFT = 0.1  # HRV: of that at rest, at the maximum
WANDER_BPM = Range(0.5, 2.5, "chosen: slow wandering around the course that the load sets")
WANDER_S = 15.0  # chosen: its correlation time


class Activity(NamedTuple):
    """One way to move: its share of all bouts, the part of the heart rate reserve it asks for, steps (or turns) a minute, acceleration.

    `swing` is the part of the periodic motion at half the step rate, `random` of the whole motion what has no period.
    """

    name: str
    share: float
    reserve: Range
    steps_per_min: Range
    acc_g: Range
    swing: Range
    random: Range


ACTIVITIES = (
    Activity(
        "rest",
        0.24,
        Range(0.0, 0.08, "ACSM: very light"),
        Range(60.0, 90.0, "no steps: without weight at this acceleration"),
        Range(0.002, 0.02, "WRIST: tremor and breath"),
        Range(0.0, 1.0, "chosen"),
        Range(0.9, 1.0, "chosen"),
    ),
    Activity(
        "gestures",
        0.16,
        Range(0.02, 0.22, "ACSM: very light"),
        Range(40.0, 150.0, "chosen: repeated reaching, typing, washing"),
        Range(0.05, 0.5, "WRIST"),
        Range(0.0, 1.0, "chosen"),
        Range(0.6, 1.0, "chosen: mostly without a period"),
    ),
    Activity(
        "walk",
        0.25,
        Range(0.12, 0.42, "ACSM: very light to moderate"),
        Range(80.0, 132.0, "GAIT"),
        Range(0.1, 0.5, "WRIST"),
        Range(0.2, 0.8, "WRIST"),
        Range(0.1, 0.4, "chosen"),
    ),
    Activity(
        "run",
        0.25,
        Range(0.45, 0.92, "ACSM: moderate to vigorous"),
        Range(146.0, 190.0, "book, GAIT"),
        Range(0.5, 1.8, "WRIST"),
        Range(0.1, 0.6, "WRIST"),
        Range(0.08, 0.3, "chosen"),
    ),
    Activity(
        "cycle",
        0.10,
        Range(0.3, 0.8, "ACSM: light to vigorous"),
        Range(55.0, 100.0, "book: turns of the pedals"),
        Range(0.03, 0.2, "chosen: hands on the bar, road"),
        Range(0.0, 0.3, "chosen"),
        Range(0.5, 0.9, "chosen"),
    ),
)
BOUT_S = Range(30.0, 180.0, "TROIKA and treadmill protocols: half a minute to three")
CADENCE_WANDER = 0.015  # chosen: deviation of the cadence inside a bout, of itself
HARMONIC_FALL = Range(0.25, 0.7, "WRIST: each harmonic of the step over the one before")
RANDOM_HZ = (0.3, 6.0)  # book: voluntary motion and impact
BURST, BURST_S = 0.6, 2.0  # chosen: log deviation and correlation time of motion without a period
EDGE_S = 0.5  # chosen: to begin and to end
SENSOR_G = Range(0.002, 0.01, "chosen: noise of a wrist accelerometer")

# The leak of motion into the PPG, in pulses of unit deviation
COUPLING = (-0.1, 0.7)  # SEEN: log-normal between persons, at 1 g
COUPLING_WITHIN = 0.3  # chosen: log deviation between recordings of a person
LEAK_POWER = 0.4  # SEEN: walking spoils as much as running, so that the leak grows less than the acceleration
LINEAR = Range(0.2, 0.8, "chosen: part of the leak that is the acceleration itself, delayed; the rest shares its rhythm only")
DELAY_S = Range(0.0, 0.15, "chosen: tissue follows the sensor")
GRIP_WANDER = 0.35  # chosen: log deviation of the coupling inside a recording
GRIP_S = 10.0  # chosen: its correlation time
CONTACT = (-1.5, 0.8)  # SEEN: log-normal between recordings; what moves the sensor on the skin and no accelerometer feels
CONTACT_HZ = (0.4, 4.0)  # PPG: the band of the pulse
