"""Several defenses, one after the other, as one."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from defenses.gaussian_draw import GaussianDraw, summed
from defenses.penalized_training import PenalizedTraining, check_one_schedule, train_together
from defenses.protected_split import back_through, behind, through
from splitbench.codec import Codec
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.exits import Answered
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class Chain(Defense):
    """What the first member protects goes to the second, and so on; the last one's codec sends it.

    For example a bottleneck, noise on what it lets through, and few bits for the noisy values.
    Members are fitted in turn, each on what those before it release and on the server that they
    have left, so that the server last learns from what it will receive. Fitted so, whoever trains
    the client last need not keep what it was trained for before. Neighbours that train both sides
    against a penalty (`NoPeek`, `AdversarialTraining`, `ConditionalEntropy`,
    `FisherRegularization`) are therefore trained together, in one loop, on::

        CE(labels) + sum over the neighbours of weight * penalty

    from what those before them have left, each penalty of what its member releases, the noise of
    those before it included. They must have the same `finetune_epochs`, `learning_rate` and
    `batch_size`, which are those of the loop; those of weight 0 or without epochs have no say.
    Weights say what counts when ends conflict: one of them can still drown another.

    An adaptive attack is given one likelihood for the whole. Where one member is random it is that
    member's, around what those before it hand on; where a quantiser or a selection follows, the
    probability of what the message leaves possible (of a quantiser: given the range), if the member
    can tell. Gaussian and Laplace noise and dropout can, for one release; what several leave is
    taken as if nothing had been rounded. Normal noises one after the other are one, of their summed
    variance. Everything else that is random more than once has no likelihood: Laplace noise or
    dropout with other noise, rounding at random of what is random, clipping of what is noisy.

    Args:
        members: Name to defense, in this order, at least one. Only the first may change the
            client's structure, only the last may bring a codec, and none may have a secret key.
            Only the first may have exits. None trains the client behind one that passes no
            gradients. Those that are trained together have one schedule. They are taken as
            descriptions: each chain fits members of its own.

    Threat model:
        Whoever reads the messages, the server included, with the weights and every member's
        settings. What members hand on stays on the device; no member has a key, so that only
        what they draw anew for each message is secret.

    Guarantee:
        That of its strongest formal member, as computing on a release reveals nothing more; else
        empirical, as where the first member has exits: who stays is decided by the bare features.

    Known to fall to:
        What its members together leave; where a chain has no likelihood, searches go by the
        distance to the message, as they do for a release without noise. Members that train the
        client and are not neighbours, or have stages of their own (`ResistanceTransfer`), are
        fitted in turn, and what the client learnt first may be gone.

    Deviations from the paper:
        No paper is about chains. Members deviate from theirs as each of them says; that on
        conditional entropy adds penalties up, as is done here.

    References:
        None.

    Example:
        >>> from defenses.gaussian_noise import GaussianNoise
        >>> from defenses.quantization import Quantization
        >>> members = {"noise": GaussianNoise(noise_std=0.5), "bits": Quantization(bits=4)}
        >>> Chain(members=members).stochastic
        True
    """

    def __init__(self, *, members: Mapping[str, Defense]) -> None:
        super().__init__()
        if not members:
            raise ValueError("members={}: want at least one")
        *earlier, last = members.items()
        for name, member in members.items():
            if member.keyed:
                raise ValueError(f"members: '{name}' has a secret key, which does not chain")
        for name, member in list(members.items())[1:]:
            if member.exits:
                raise ValueError(
                    f"members: '{name}' answers images on the device, which only the first "
                    "member of a chain may: it decides by the features, before any protection"
                )
        _refuse_training_behind_rounding(members)
        _refuse_several_schedules(members)
        for name, member in earlier:
            if member.codec is not None:
                raise ValueError(
                    f"members: '{name}' brings a codec, and '{last[0]}' comes after it; only the "
                    "last member makes the message"
                )
        self.members = dict(members)
        # Fitting changes a defense: members of this chain alone, built from what was given.
        self.stages = nn.ModuleList(type(m)(**m.arguments()) for m in members.values())

    @property
    def stochastic(self) -> bool:  # type: ignore[override]  # depends on the members
        """Whether any member is."""
        return any(member.stochastic for member in self._stages)

    @property
    def differentiable(self) -> bool:  # type: ignore[override]  # depends on the members
        """Whether all members are."""
        return all(member.differentiable for member in self._stages)

    @property
    def changes_client(self) -> bool:
        """Whether any member does."""
        return any(member.changes_client for member in self._stages)

    @property
    def exits(self) -> bool:
        """Whether the first member does."""
        return self._stages[0].exits

    def answered(self, features: Tensors) -> Answered | None:
        """What the first member answers, by the features as they are."""
        return self._stages[0].answered(features)

    @property
    def stops(self) -> tuple[str, ...]:
        """The first member's."""
        return self._stages[0].stops

    def answered_early(self, stop: str, values: Tensors) -> Answered:
        """What the first member answers on the way."""
        return self._stages[0].answered_early(stop, values)

    @property
    def codec(self) -> Codec | None:
        """The last member's."""
        return self._stages[-1].codec

    def adapt(self, split: Split) -> Split:
        """Let the first member change the structure.

        Raises:
            ValueError: Another member would.
        """
        adapted = self._stages[0].adapt(split)
        for name, member in list(zip(self.members, self._stages, strict=True))[1:]:
            if member.adapt(adapted) is not adapted:
                raise ValueError(
                    f"members: '{name}' changes the client's structure, which only the first "
                    "member of a chain may"
                )
        return adapted

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Fit the members in turn, and together those that are trained together."""
        before: list[Defense] = []
        for group in _fitted_together(self._stages):
            seen = behind(split, before, generator)
            joined = [member for member in group if isinstance(member, PenalizedTraining)]
            if len(joined) > 1:
                train_together(joined, seen, train, generator=generator, on_step=on_step)
            else:
                group[0].fit(seen, train, generator=generator, on_step=on_step)
            before += group

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Through all members in turn."""
        return through(self._stages, features, generator)

    def restore(self, tensors: Tensors) -> Tensors:
        """Back through all members, the last one first."""
        return back_through(self._stages, tensors)

    def pool(self, observations: list[Tensors]) -> Tensors:
        """As the only random member does it; else the mean."""
        random = self._random()
        return super().pool(observations) if random is None else random.pool(observations)

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Of what is random around what reaches it, rounded where another member's codec rounds."""
        found = self._law(features, observed)
        if found is None:
            return None
        law, reached = found
        codec = self.codec
        if codec is None or codec.lossless or law is self._stages[-1]:
            return law.negative_log_likelihood(observed, reached, observations=observations)
        cells = codec.interval(observed)
        if cells is None:  # what it loses is no box
            return None
        if observations == 1:
            return law.cell_surprise(*cells, reached)
        return law.negative_log_likelihood(observed, reached, observations=observations)

    def place(self, features: Tensors) -> Tensors:
        """That of what is random, as it is reached."""
        found = self._law(features, self._sent(features))
        return features if found is None else found[0].place(found[1])

    def expected(self, features: Tensors) -> Tensors:
        """Through all members, without what they draw; the last one's codec knows its own."""
        *earlier, last = self._stages
        generator = torch.Generator()  # of nothing: whoever draws is asked what to expect
        for member in earlier:
            if member.stochastic:
                features = member.expected(features)
            else:
                features = member.protect(features, generator=generator)
        return last.expected(features)

    def information(self, features: Tensors) -> Tensors | None:
        """Of what is random; None where the codec loses some of it, or the device answers."""
        found = self._law(features, self._sent(features))
        lossy = self.codec is not None and not self.codec.lossless
        return None if found is None or lossy or self.exits else found[0].information(found[1])

    def guarantee(self) -> Guarantee:
        """The strongest formal one, else that the members speak for."""
        kinds = [member.guarantee() for member in self._stages]
        if len(kinds) == 1:
            return kinds[0]
        formal = [found for found in kinds if found.formal and not self.exits]
        if formal:
            return min(formal, key=lambda found: (found.epsilon, found.delta))
        return Guarantee("empirical", "; then ".join(found.statement for found in kinds))

    @property
    def _stages(self) -> list[Defense]:
        return [member for member in self.stages if isinstance(member, Defense)]

    def _random(self) -> Defense | None:
        """The one random member; None where there are none or several."""
        random = [member for member in self._stages if member.stochastic]
        return random[0] if len(random) == 1 else None

    def _sent(self, features: Tensors) -> Tensors:
        """Some release, always the same."""
        return self.protect(features, generator=torch.Generator())

    def _law(
        self, features: Tensors, sent: Tensors
    ) -> tuple[Defense | GaussianDraw, Tensors] | None:
        """Whose law a release has, and what reaches that; None where nobody can tell."""
        random = [member for member in self._stages if member.stochastic]
        if not random:
            return None
        first = self._stages.index(random[0])
        generator = torch.Generator()  # nobody before it is random
        reached = through(self._stages[:first], features, generator)
        after = [member for member in self._stages[first + 1 :] if not member.stochastic]
        if any(member.protect(sent, generator=generator) is not sent for member in after):
            return None
        return (random[0], reached) if len(random) == 1 else _as_one(random, reached, sent)


def _refuse_training_behind_rounding(members: Mapping[str, Defense]) -> None:
    stops = ""
    for name, member in members.items():
        if stops and member.changes_client:
            raise ValueError(
                f"members: '{name}' trains the client, and gradients do not pass '{stops}' before "
                f"it; put '{name}' before '{stops}'"
            )
        if member.codec is not None or not member.differentiable:
            stops = stops or name


def _refuse_several_schedules(members: Mapping[str, Defense]) -> None:
    names = iter(members)
    for group in _fitted_together(list(members.values())):
        named = [(next(names), member) for member in group]
        check_one_schedule({n: m for n, m in named if isinstance(m, PenalizedTraining)})


def _fitted_together(members: Sequence[Defense]) -> list[list[Defense]]:
    """Members in their order, neighbours in one list where one loop trains them."""
    groups: list[list[Defense]] = []
    for member in members:
        if groups and _joins(groups[-1][-1]) and _joins(member):
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def _joins(member: Defense) -> bool:
    return isinstance(member, PenalizedTraining) and member.joins


def _as_one(
    random: Sequence[Defense], reached: Tensors, sent: Tensors
) -> tuple[GaussianDraw, Tensors] | None:
    """Normal noises on the same values as one; None where they are of other kinds."""
    told = [member.signal_and_noise(reached if i == 0 else sent) for i, member in enumerate(random)]
    known = [each for each in told if each is not None]
    if len(known) < len(random) or not all(member.normal for member in random):
        return None
    if any(signal is not sent for signal, _ in known[1:]):  # clipped, say
        return None
    return GaussianDraw(), summed(known[0][0], [variances for _, variances in known])
