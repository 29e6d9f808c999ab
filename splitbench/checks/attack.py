"""What every attack must do, as functions that raise AssertionError and name the remedy.

An author of an attack runs all of them at once, with settings that take milliseconds on 8x8
images::

    check_attack(MyAttack(steps=50))
"""

from collections.abc import Callable

from splitbench.attack import Attack
from splitbench.checks.attack_answers import (
    check_beats_blind_guess_where_inversion_is_easy,
    check_diagnostics_are_numbers,
    check_fitting_yields_progress,
    check_floor_does_not_beat_blind_guess,
    check_gains_nothing_from_constant_features,
    check_guesses_are_images,
    check_order_equivariance,
    check_reads_what_is_beside_the_tensors,
    check_state_round_trip,
    check_subset_invariance,
)
from splitbench.checks.attack_conduct import (
    check_leaves_global_rng_alone,
    check_leaves_what_it_was_lent_alone,
    check_needs_is_exact,
    check_query_budget_is_respected,
    check_refuses_without_its_needs,
    check_rejects_nonfinite_features,
    check_rejects_unfitted,
    check_same_seed_same_answer,
    check_works_under_a_query_budget,
)
from splitbench.checks.attack_form import (
    check_constructor_only_stores,
    check_docstring,
    check_every_knob_matters,
)
from splitbench.checks.attack_honesty import (
    check_does_not_choose_by_the_truth,
    check_goes_through_the_surface,
    check_keeps_nothing_of_the_targets,
)

ATTACK_CHECKS: tuple[Callable[[Attack], None], ...] = (
    check_constructor_only_stores,
    check_docstring,
    check_every_knob_matters,
    check_needs_is_exact,
    check_refuses_without_its_needs,
    check_query_budget_is_respected,
    check_works_under_a_query_budget,
    check_goes_through_the_surface,
    check_keeps_nothing_of_the_targets,
    check_does_not_choose_by_the_truth,
    check_leaves_what_it_was_lent_alone,
    check_leaves_global_rng_alone,
    check_same_seed_same_answer,
    check_rejects_unfitted,
    check_rejects_nonfinite_features,
    check_guesses_are_images,
    check_subset_invariance,
    check_order_equivariance,
    check_beats_blind_guess_where_inversion_is_easy,
    check_reads_what_is_beside_the_tensors,
    check_floor_does_not_beat_blind_guess,
    check_gains_nothing_from_constant_features,
    check_diagnostics_are_numbers,
    check_fitting_yields_progress,
    check_state_round_trip,
)


def check_attack(attack: Attack) -> None:
    """Run all checks on one attack and report every failure.

    Args:
        attack: Not fitted; left as it is. Its settings should be small.

    Raises:
        AssertionError: Some checks failed; the message has one line for each.
    """
    failures = []
    for check in ATTACK_CHECKS:
        try:
            check(attack)
        except Exception as failure:  # noqa: BLE001  # an attack that crashes fails the check too
            failures.append(f"{check.__name__}: {failure!r}")
    assert not failures, f"{attack!r} breaks the contract\n" + "\n".join(failures)
