"""What every defense must do, as functions that raise AssertionError and name the remedy.

An author of a defense runs all of them at once, with settings that take milliseconds on 5x5
images::

    check_defense(MyDefense(strength=0.5))
"""

from collections.abc import Callable

from splitbench.checks.defense_conduct import (
    check_changes_client_is_honest,
    check_has_effect,
    check_leaves_global_rng_alone,
    check_more_is_more,
    check_off_is_identity,
    check_same_seed_same_release,
    check_server_still_runs,
    check_state_dict_round_trip,
)
from splitbench.checks.defense_exits import check_who_stays_sends_nothing
from splitbench.checks.defense_form import (
    check_constructor_only_stores,
    check_docstring,
    check_every_knob_matters,
)
from splitbench.checks.defense_key import (
    check_rekeying_changes_the_key_alone,
    check_restore_undoes_a_keyed_protect,
    check_the_key_is_in_the_state,
    check_the_truth_explains_a_keyed_release,
)
from splitbench.checks.defense_messages import (
    check_differentiable_is_honest,
    check_examples_do_not_mix,
    check_fresh_noise_between_messages,
    check_fresh_noise_within_a_batch,
    check_likelihood_prefers_the_truth,
    check_mismatch_can_be_followed,
    check_normal_is_honest,
    check_protect_is_pure,
    check_protects_in_eval_mode_too,
    check_stochastic_is_honest,
)
from splitbench.checks.defense_promise import check_promise_survives_an_audit
from splitbench.checks.defense_world import CUTS, DefenseWorld, defense_world
from splitbench.defense import Defense

Check = Callable[[Defense, DefenseWorld], None]

FORM_CHECKS: tuple[Check, ...] = (
    check_constructor_only_stores,
    check_docstring,
    check_every_knob_matters,
)
MESSAGE_CHECKS: tuple[Check, ...] = (
    check_stochastic_is_honest,
    check_fresh_noise_between_messages,
    check_fresh_noise_within_a_batch,
    check_differentiable_is_honest,
    check_mismatch_can_be_followed,
    check_protects_in_eval_mode_too,
    check_protect_is_pure,
    check_examples_do_not_mix,
    check_likelihood_prefers_the_truth,
    check_normal_is_honest,
    check_off_is_identity,
    check_has_effect,
    check_more_is_more,
    check_server_still_runs,
    check_changes_client_is_honest,
    check_state_dict_round_trip,
    check_leaves_global_rng_alone,
    check_same_seed_same_release,
    check_rekeying_changes_the_key_alone,
    check_restore_undoes_a_keyed_protect,
    check_the_key_is_in_the_state,
    check_the_truth_explains_a_keyed_release,
    check_promise_survives_an_audit,
    check_who_stays_sends_nothing,
)
DEFENSE_CHECKS = FORM_CHECKS + MESSAGE_CHECKS


def checks_at(cut: str) -> tuple[Check, ...]:
    """The checks that a defense must pass at one of `CUTS`.

    Those of the class itself are made once, at the first: a keyword need not matter at every cut.
    """
    return DEFENSE_CHECKS if cut == CUTS[0] else MESSAGE_CHECKS


def check_defense(defense: Defense) -> None:
    """Run all checks on one defense, at every kind of cut, and report every failure.

    Args:
        defense: Left as it is; fresh ones are built from its arguments. Its settings should be
            small, and such that every keyword matters.

    Raises:
        AssertionError: Some checks failed; the message has one line for each.
    """
    failures = []
    for cut in CUTS:
        world = defense_world(cut)
        for check in checks_at(cut):
            try:
                check(defense, world)
            except Exception as failure:  # noqa: BLE001  # a defense that crashes fails it too
                failures.append(f"{check.__name__} at '{cut}': {failure!r}")
    assert not failures, f"{defense!r} breaks the contract\n" + "\n".join(failures)
