"""What whoever feeds a student must know of its windows: signals, rate, and what is done to them first. Pure."""

from __future__ import annotations

from hwnas.export.c import Signals
from hwnas.graph import Shape
from hwnas.tasks.base import Task
from hwnas.tasks.pulse_motion import BAND_HZ, ORDER

PREPARED = {
    "heart_rate": (
        f"every channel band-passed from {BAND_HZ[0]:g} to {BAND_HZ[1]:g} Hz before it is cut into windows: Butterworth of order {ORDER}, "
        "forwards and backwards, without delay (-6 dB at both edges)"
    )
}
UNFILTERED = "no filter of hwnas: as the sensor gives it"


def signals_of(task: Task, window: Shape) -> Signals:
    """The signals in windows of `task`; channels have names where a window has those of the task."""
    channels = task.channels if len(task.channels) == window.channels else ()
    return Signals(task.rate_hz, channels, PREPARED.get(task.name, UNFILTERED))
