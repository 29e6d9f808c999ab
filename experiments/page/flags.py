"""What each flag means: shown on the page and in ``docs/leaderboard.md``."""

from dataclasses import dataclass

from splitbench.leaderboard import UNRANKED


@dataclass(frozen=True)
class Flag:
    """The explanation of one flag.

    Attributes:
        name: As it stands in records and tables.
        short: Two or three words for a mark in a table.
        raised_if: The exact condition.
        means: What it says about the number.
        do: What to do about it.
    """

    name: str
    short: str
    raised_if: str
    means: str
    do: str

    @property
    def unranks(self) -> bool:
        """Rows that carry it are shown, but not ranked."""
        return self.name in UNRANKED


FLAGS = (
    Flag(
        "closure_raised",
        "raised by closure",
        "another release that can be computed from this one leaks more, by more than the interval "
        "of the paired difference",
        "The attacks on this release were weaker than they could be: an adversary would have "
        "computed the other release and attacked that. The closed value is the honest one.",
        "Give the attacks on this cut more steps or capacity; rank by the closed value.",
    ),
    Flag(
        "weaker_access_wins",
        "weaker access wins",
        "an adversary that knows less about the same system, and has no answers that the row's "
        "lacks, reaches a higher leakage, by more than the interval of the paired difference",
        "The better informed attack failed, for example because gradients vanish or its training "
        "did not converge. The row understates what leaks.",
        "Check the training curves of the adaptive attack and run it again; the row is not ranked "
        "until then.",
    ),
    Flag(
        "gradients_mislead",
        "gradients mislead",
        "the search that follows no gradients leaks more than the best attack that may, by more "
        "than the interval of the paired difference",
        "Attacks that follow gradients should win wherever there are useful ones. Rounding, "
        "saturation or an argmax hides them here, and the row understates what leaks.",
        "Attack with a decoder that is trained long enough, or let the search follow the gradients "
        "of a smooth stand-in; the row is not ranked until then.",
    ),
    Flag(
        "adaptive_not_better",
        "adaptive not better",
        "knowing the defense does not raise the leakage above that of the naive adversary",
        "Either the defense changes so little that ignoring it costs nothing, or the adaptive "
        "attack was trained badly.",
        "Look at the accuracy and at the naive row: if both are those of the undefended model, the "
        "defense is too weak to matter; otherwise train the attack longer.",
    ),
    Flag(
        "at_floor",
        "at the floor",
        "the interval of the best attack's leakage does not rise above 0",
        "No attack beat a blind guess. That is what a perfect defense looks like, and also what a "
        "broken attack looks like.",
        "See whether the same attacks succeed at this cut without the defense. If they do not, the "
        "row says nothing.",
    ),
    Flag(
        "above_one",
        "above one",
        "a leakage is larger than 1",
        "Impossible: an error cannot be negative. The evaluation is broken.",
        "Do not use the number; report it.",
    ),
    Flag(
        "blind_leaks",
        "blind guess leaks",
        "the interval of an attack that never sees the release lies more than 0.01 above the floor",
        "The floor is too low, or information reaches the blind attack by another way. Every "
        "leakage of the row is suspect.",
        "Check that the four data roles are disjoint and large enough for a mean image; do not use "
        "the number.",
    ),
    Flag(
        "inconsistent",
        "inconsistent",
        "the leakage in a record is not that of its own per-example scores",
        "The record and its scores do not belong together.",
        "Delete the record and run the cell again.",
    ),
    Flag(
        "utility_collapsed",
        "accuracy collapsed",
        "the interval of the accuracy reaches down to the share of the largest class",
        "The model may have stopped working. A release that is useless for the task protects "
        "the image trivially.",
        "Weaken the defense, or let the server learn to bear it.",
    ),
    Flag(
        "incomplete",
        "incomplete",
        "an attack of the suite failed on this row, or other rows met one that this has not",
        "The best of the remaining attacks may be weaker than the one that is missing.",
        "Read the error in the table of attacks and mend it, then run the same command again, "
        "which goes on with a stopped job: finished cells are kept.",
    ),
    Flag(
        "few_targets",
        "few targets",
        "the best attack was tried on fewer than 100 images",
        "The interval is wide and the tails are not to be trusted.",
        "Attack more targets; slow attacks may keep a limit of their own.",
    ),
    Flag(
        "payload_varies",
        "payload varies",
        "messages of different images differ in length",
        "The length itself tells something about the image to anyone who sees the traffic, even "
        "where it is encrypted.",
        "Pad messages to a fixed length, or turn entropy coding off.",
    ),
    Flag(
        "payload_tells_class",
        "payload tells the class",
        "the lengths of messages differ between classes by more than chance allows (Kruskal-Wallis "
        "test, p below 0.001)",
        "Whoever sees encrypted traffic learns something about the class from the length alone.",
        "Pad messages to a fixed length, or turn entropy coding off.",
    ),
    Flag(
        "batch_dependent",
        "depends on the batch",
        "the release of an image changes with the images that are released beside it",
        "A device sends one image. What was attacked here is not what it would send, and mixing "
        "images may hide them from the attacks.",
        "Use no statistics of the batch in the defense, and batch normalisation in eval mode only.",
    ),
    Flag(
        "search_failed",
        "search failed",
        "the images that a search found leave more of the release unexplained than a tenth of what "
        "a grey image leaves and, in a noisy channel, than twice what the truth leaves, or than "
        "the truth and half of what a grey image leaves beyond it; or the gradient vanishes at the "
        "grey image for more than one target in a hundred",
        "The search did not find what the release allows. The row rests on the other attacks, and "
        "may understate what leaks. A prior that held-out images made strong looks the same.",
        "Give the search more steps or another start; where gradients vanish, attack without them.",
    ),
    Flag(
        "only_failed_searches",
        "all searches failed",
        "every attack that ran on the row is a search, and each of them failed",
        "The number says that searches failed, not what the release hides. An adversary without "
        "images of its own has nothing but searches.",
        "Give the searches more steps or another start; the row is not ranked until then.",
    ),
    Flag(
        "capacity_not_saturated",
        "capacity not saturated",
        "a larger or longer trained attack of the same kind leaks more by over 0.02 and by more "
        "than the interval of the paired difference",
        "The smaller one was too small, and a still larger one may find more.",
        "Train a still larger attack, until it gains nothing.",
    ),
    Flag(
        "training_images_leak_more",
        "training images leak more",
        "images that the model was trained on, attacked alike, leak more by more than the interval "
        "of the difference",
        "Users whose images were used in training give away more than the others.",
        "Report both numbers; do not attack training images to describe other users.",
    ),
    Flag(
        "data_not_saturated",
        "data not saturated",
        "more auxiliary images, all else being equal, raise the leakage by over 0.02 per doubling "
        "and by more than the interval of the paired difference",
        "An adversary with more data would recover more.",
        "Enlarge the auxiliary role, or name its size beside the number.",
    ),
    Flag(
        "repetition_leaks",
        "repetition leaks",
        "an adversary that sees more releases of each target, all else being equal, reaches a "
        "leakage that is higher by over 0.1 and by more than the interval of the paired difference",
        "The defense protects one message; who sends the same image again gives more away.",
        "Let the device answer a repeated image with the same randomness, or report the row for "
        "as many messages as it will send.",
    ),
    Flag(
        "repetition_untested",
        "repetition untested",
        "the defense is random, the adversary knows it and sees one release of each target, and no "
        "row of the board shows what an adversary of the same system finds in several",
        "What is random averages out over releases of one image. The row speaks of a single "
        "message.",
        "Attack the same system with `threat=repeated`.",
    ),
    Flag(
        "security_by_key",
        "security by key",
        "an adversary that knows the secret key, all else being equal, reaches a leakage that is "
        "higher by over 0.1 and by more than the interval of the paired difference",
        "What the row seems to hide it owes to the key alone. Whoever gets hold of it, or of pairs "
        "of images and releases under it, recovers what the row with the key shows.",
        "Rank by the row with the key, which is why this one has no place. Many users who "
        "share a key give it away (`key_recovery`): keep it in hardware and change it often.",
    ),
    Flag(
        "randomness_ignored",
        "randomness ignored",
        "the defense is random, and the adversary neither expects it nor sees more than one "
        "release of a target",
        "The row shows what a single draw does to somebody who is not prepared for it, not what "
        "the defense hides.",
        "Compare with the adversary that knows the defense and draws its randomness in training.",
    ),
    Flag(
        "guarantee_beaten",
        "guarantee beaten",
        "an attribute is recognised, or a target is rebuilt to a leakage above 0.5, more often "
        "than the formal guarantee of the row lets any adversary, by more than the intervals; or "
        "an attack errs less than a certificate allows from whose prior the images are drawn",
        "What is promised does not hold: the proof does not cover the code, or what is inferred "
        "did not come from the release alone.",
        "Audit the defense (`splitbench.audit`), and look for what leaves the device beside the "
        "message; the row is not ranked until then.",
    ),
    Flag(
        "seeds_spread",
        "seeds disagree",
        "the best attack's leakage differs by more than 0.05 between seeds",
        "A single run of this row says little.",
        "Run more seeds.",
    ),
)

BY_NAME = {flag.name: flag for flag in FLAGS}


def explain(name: str) -> Flag:
    """The explanation of a flag; a flag that is not known here says so."""
    unknown = Flag(
        name,
        name.replace("_", " "),
        "set by the run that made the record",
        "This version of the leaderboard does not know the flag.",
        "See the documentation of the attack or defense that sets it.",
    )
    return BY_NAME.get(name, unknown)
