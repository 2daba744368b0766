"""Settings of made-up scenes, and the random streams drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from a2lc.errors import ConfigError, require_known

__all__ = ["DIFFICULTIES", "GRAIN", "LABELS", "LAYOUT", "MASKS", "QUOTAS", "SceneSettings", "generator"]


DIFFICULTIES: dict[str, float] = {"easy": 0.25, "normal": 0.5, "hard": 0.75}
"""The named levels of `SceneSettings.difficulty`."""


# Streams of random numbers. Apart from each other, so that the difficulty changes the labels and nothing else.
LAYOUT, GRAIN, MASKS, LABELS, QUOTAS = range(5)


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """What scenes to make.

    Attributes:
        images: Training scenes, at least 1.
        validation_images: Validation scenes, 0 or more. They are the scenes after the training ones.
        height: Image height in pixels, at least 16.
        width: Image width in pixels, at least 16. The layout is for images wider than high; others work.
        seed: Seed of everything, 0 or more.
        difficulty: How bad the pseudo labels are: "easy", "normal", "hard" or 0..1. Images and masks do not depend
            on it, and a label wrong at one difficulty is as wrong at every higher one.
    """

    images: int = 96
    validation_images: int = 24
    height: int = 128
    width: int = 160
    seed: int = 0
    difficulty: float | str = "normal"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A number is out of range.
            UnknownNameError: There is no difficulty of that name.
        """
        for name, least in (("images", 1), ("validation_images", 0), ("height", 16), ("width", 16), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"scenes: {name} is {getattr(self, name)}; expected at least {least}.")
        if not 0.0 <= self.level <= 1.0:
            raise ConfigError(
                f"scenes: difficulty is {self.difficulty}; expected 0..1 or one of {', '.join(DIFFICULTIES)}."
            )

    @property
    def level(self) -> float:
        """The difficulty as a number, 0..1."""
        if isinstance(self.difficulty, str):
            return DIFFICULTIES[require_known("difficulty", self.difficulty, DIFFICULTIES)]
        return float(self.difficulty)


def generator(settings: SceneSettings, stream: int, index: int) -> np.random.Generator:
    """Return the random generator of a stream of decisions in one scene."""
    return np.random.default_rng([settings.seed, stream, index])
