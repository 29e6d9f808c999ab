"""A defense that adds half of the noise that it speaks of."""

from defenses.gaussian_noise import GaussianNoise


class HalvedNoise(GaussianNoise):
    """Says of itself what `GaussianNoise` says."""

    def noise(self, like, *, generator):
        return super().noise(like, generator=generator) / 2
