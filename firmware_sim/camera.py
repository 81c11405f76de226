"""The camera controller: which clips begin and end, announced on the bus as CameraTrigger frames.

- The front camera runs as a dash cam while the ignition is not off: a clip starts when the car
  does, and a new one every `clip_s` seconds, as the old one ends.
- A deceleration beyond HARD_BRAKE for HARD_BRAKE_S starts a clip of its own on the front and the
  rear camera; it ends EVENT_CLIP_S later. There is no second one while it runs.
- With the ignition off, something that moves beside the car starts a clip on the front and the rear
  camera; it ends PARKED_CLIP_S later, and there is no second one while it runs.
- Each clip has a number of its own. Start and end carry the same camera, reason and number.

What the frames look like is in car.dbc (CameraTrigger, CameraStatus). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FRONT, REAR = 0, 1
DASHCAM, HARD_BRAKE_REASON, PARKED_MOTION = 1, 2, 4
STARTED, ENDED = 1, 2

HARD_BRAKE: Final = -6.0  # m/s2
HARD_BRAKE_S: Final = 0.1
EVENT_CLIP_S: Final = 5.0
PARKED_CLIP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that is being recorded."""

    camera: int
    reason: int
    number: int
    ends_s: float


class CameraController:
    """Decides on triggers, step by step.

    Args:
        clip_s: length of a dash-cam clip in seconds.
    """

    def __init__(self, clip_s: float) -> None:
        self._clip_s = clip_s
        self._clips: list[Clip] = []
        self._braking_since_s: float | None = None
        self.count = 0

    @property
    def recording(self) -> int:
        """One bit for each camera that records, the front camera lowest."""
        bits = 0
        for clip in self._clips:
            bits |= 1 << clip.camera
        return bits

    def step(
        self, now_s: float, acceleration: float, *, awake: bool = True, motion: bool = False
    ) -> list[dict[str, float]]:
        """Return the triggers of this moment as values of CameraTrigger, in order.

        Args:
            now_s: seconds since the start; never falls.
            acceleration: along the car, m/s2.
            awake: the ignition is not off.
            motion: something moves beside the car.
        """
        triggers = []
        for clip in list(self._clips):
            if clip.ends_s <= now_s or (clip.reason == DASHCAM and not awake):
                self._clips.remove(clip)
                triggers.append(_values(clip, ENDED))
        if awake and not self._runs(DASHCAM):
            triggers.append(self._begin(FRONT, DASHCAM, now_s + self._clip_s))
        if self._hard_brake(now_s, acceleration):
            for camera in (FRONT, REAR):
                triggers.append(self._begin(camera, HARD_BRAKE_REASON, now_s + EVENT_CLIP_S))
        if motion and not awake and not self._runs(PARKED_MOTION):
            for camera in (FRONT, REAR):
                triggers.append(self._begin(camera, PARKED_MOTION, now_s + PARKED_CLIP_S))
        return triggers

    def _runs(self, reason: int) -> bool:
        return any(clip.reason == reason for clip in self._clips)

    def _begin(self, camera: int, reason: int, ends_s: float) -> dict[str, float]:
        self.count += 1
        clip = Clip(camera, reason, self.count & 0xFFFF, ends_s)
        self._clips.append(clip)
        return _values(clip, STARTED)

    def _hard_brake(self, now_s: float, acceleration: float) -> bool:
        if acceleration >= HARD_BRAKE:
            self._braking_since_s = None
            return False
        if self._braking_since_s is None:
            self._braking_since_s = now_s
        return not self._runs(HARD_BRAKE_REASON) and now_s - self._braking_since_s >= HARD_BRAKE_S


def _values(clip: Clip, state: int) -> dict[str, float]:
    return {
        "CameraId": clip.camera,
        "TriggerReason": clip.reason,
        "TriggerState": state,
        "ClipId": clip.number,
    }
