"""The four roles: disjoint, balanced, reproducible; and the check that catches any overlap."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitbench.data.deal import stratified_order
from splitbench.data.disjoint import OverlapError, check_disjoint
from splitbench.data.images import ROLES, LabeledImages, Roles
from splitbench.data.roles import assign_literature_roles, assign_roles

SIZES = {"train": 100, "auxiliary": 50, "calibration": 20, "target": 30}
SIMILARITY = 0.97


def photographs(count, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=generator)


def source(count=200, *, classes=4, seed=0):
    labels = torch.arange(count) % classes
    return LabeledImages(photographs(count, seed=seed), labels, tuple("abcdefgh"[:classes]))


def people(count=40, each=10, *, label_is_person=False):
    persons = torch.arange(count).repeat_interleave(each)
    labels = persons if label_is_person else torch.arange(count * each) % 2
    names = tuple(map(str, range(count if label_is_person else 2)))
    return LabeledImages(photographs(count * each), labels, names, identities=persons)


def assign(images, **changes):
    return assign_roles(images, **{"sizes": SIZES, "seed": 0, "similarity": SIMILARITY, **changes})


def parts(roles):
    return [getattr(roles, name) for name in ROLES]


def persons(part):
    return set(part.identities.tolist())


def contents(part):
    return {row.numpy().tobytes() for row in part.pixels}


def test_every_image_is_in_at_most_one_role():
    found = [contents(part) for part in parts(assign(source()))]
    assert [len(part) for part in found] == [100, 50, 20, 30]
    assert len(set.union(*found)) == 200


def test_labels_and_identities_stay_with_their_images():
    images = people()
    by_content = {
        row.numpy().tobytes(): (int(label), int(person))
        for row, label, person in zip(images.pixels, images.labels, images.identities, strict=True)
    }
    for part in parts(assign(images, identities="shared")):
        for row, label, person in zip(part.pixels, part.labels, part.identities, strict=True):
            assert by_content[row.numpy().tobytes()] == (int(label), int(person))


def test_each_role_holds_every_class_equally_often_where_sizes_allow():
    sizes = {"train": 80, "auxiliary": 40, "calibration": 20, "target": 40}
    for part in parts(assign(source(), sizes=sizes)):
        assert part.labels.bincount().tolist() == [len(part) // 4] * 4


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    start=st.floats(0, 1),
    length=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_any_run_of_the_order_holds_each_class_in_proportion(counts, start, length, seed):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    order = stratified_order(labels, generator=torch.Generator().manual_seed(seed))
    assert order.sort().values.tolist() == list(range(len(labels)))
    first = int(start * len(labels))
    run = order[first : first + int(length * len(labels))]
    share = len(run) / len(labels)
    got = labels[run].bincount(minlength=len(counts))
    for count, have in zip(counts, got.tolist(), strict=True):
        assert abs(have - share * count) <= 2


def test_the_same_seed_gives_the_same_roles_and_another_seed_others():
    first, again, other = (assign(source(), seed=seed).fingerprints() for seed in (5, 5, 6))
    assert first == again
    assert all(first[role] != other[role] for role in ROLES)


def test_the_sizes_of_train_and_auxiliary_do_not_move_the_images_under_attack():
    few = assign(source(), sizes={**SIZES, "train": 40, "auxiliary": 10})
    many = assign(source())
    for role in ("calibration", "target"):
        assert few.fingerprints()[role] == many.fingerprints()[role]
    assert contents(few.train) < contents(many.train)
    assert contents(few.auxiliary) < contents(many.auxiliary)


def test_shares_are_taken_of_the_images_that_are_left():
    images = source(210)
    images.pixels[200:] = images.pixels[:10]
    shares = {"train": 0.5, "auxiliary": 0.25, "calibration": 0.1, "target": 0.15}
    roles = assign(images, sizes=shares)
    assert [len(part) for part in parts(roles)] == [100, 50, 20, 30]
    assert roles.dropped == {"exact copies": 10, "near copies": 0, "left over": 0}


def test_of_planted_copies_one_is_kept_and_the_others_are_counted():
    images = source(220)
    images.pixels[200:205] = images.pixels[:5]
    images.pixels[205:212] = images.pixels[50:57].flip(-1)
    images.pixels[212:220] = images.pixels[100:108] // 2 + 50
    roles = assign(images)
    assert roles.dropped == {"exact copies": 5, "near copies": 15, "left over": 0}
    assert set.union(*map(contents, parts(roles))) == contents(images.subset(slice(0, 200)))
    check_disjoint(roles, similarity=SIMILARITY)


def test_images_that_no_role_takes_are_counted():
    assert assign(source(230)).dropped["left over"] == 30


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({**SIZES, "train": 101}, r"ask for 201 images .*train 101.* but there are 200"),
        ({**SIZES, "target": 0}, "size of target must be a whole number >= 1 or a share"),
        ({**SIZES, "target": -3}, "size of target must be a whole number >= 1 or a share"),
        ({**SIZES, "target": True}, "size of target must be a whole number >= 1 or a share"),
        ({**SIZES, "target": 1.5}, "size of target must be a whole number >= 1 or a share"),
        ({**SIZES, "target": 0.001}, "target gets no image"),
        ({"train": 10, "target": 10}, "sizes must name train, auxiliary, calibration, target"),
        ({**SIZES, "validation": 3}, "sizes must name train, auxiliary, calibration, target"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_number_of_images(sizes, sentence):
    with pytest.raises(ValueError, match=sentence):
        assign(source(), sizes=sizes)


def test_the_message_about_sizes_counts_the_copies_that_were_dropped():
    images = source(200)
    images.pixels[190:] = images.pixels[:10]
    with pytest.raises(ValueError, match=r"there are 190 \(10 of 200 were dropped as copies\)"):
        assign(images)


# --- persons ---------------------------------------------------------------------------------


def test_a_person_is_in_one_role_only():
    roles = assign(people())
    assert [len(part) for part in parts(roles)] == [100, 50, 20, 30]
    assert sum(len(persons(part)) for part in parts(roles)) == len(
        set.union(*map(persons, parts(roles)))
    )


def test_the_adversary_knows_other_persons_while_the_rest_share_theirs():
    images = people(label_is_person=True)
    sizes = {"train": 180, "auxiliary": 100, "calibration": 30, "target": 90}
    roles = assign(images, sizes=sizes, identities="auxiliary")
    assert len(persons(roles.auxiliary)) == 10
    assert persons(roles.auxiliary).isdisjoint(persons(roles.train))
    assert persons(roles.train) == persons(roles.calibration) == persons(roles.target)
    assert roles.target.labels.bincount()[sorted(persons(roles.target))].tolist() == [3] * 30


def test_shared_persons_are_dealt_like_any_images():
    roles = assign(people(label_is_person=True), identities="shared", sizes={**SIZES, "target": 80})
    assert len(persons(roles.target)) == 40


def test_disjoint_persons_are_refused_where_the_label_is_the_person():
    with pytest.raises(ValueError, match="set identities to 'auxiliary'"):
        assign(people(label_is_person=True))


def test_too_few_persons_are_refused_with_their_number():
    # Ten images each: the others take 4, 3 and 6 whole persons.
    sizes = {"train": 100, "target": 31, "calibration": 21, "auxiliary": 51}
    with pytest.raises(ValueError, match=r"train asks for 100 .* 8 of 21 persons .* with 80"):
        assign(people(count=21), sizes=sizes)


def test_an_unknown_rule_about_persons_is_refused():
    with pytest.raises(ValueError, match="identities must be disjoint, auxiliary or shared"):
        assign(people(), identities="apart")


# --- the literature's split ------------------------------------------------------------------


def literature(train, test, **changes):
    arguments = {"sizes": {**SIZES, "train": 1.0}, "seed": 0, "similarity": SIMILARITY}
    return assign_literature_roles(train, test, **{**arguments, **changes})


def test_the_literatures_training_set_stays_whole_and_in_order():
    train, test = source(300), source(100, seed=1)
    train.pixels[299] = train.pixels[0]
    roles = literature(train, test)
    assert roles.train.fingerprint() == train.fingerprint()
    others = set.union(*map(contents, parts(roles)[1:]))
    assert others == contents(test)
    check_disjoint(roles, similarity=SIMILARITY)


def test_test_images_with_a_copy_in_the_training_set_are_dropped():
    train, test = source(300), source(110, seed=1)
    test.pixels[3:8] = train.pixels[40:45]
    test.pixels[8:12] = train.pixels[60:64].flip(-1)
    test.pixels[12] = test.pixels[13]
    roles = literature(train, test)
    assert roles.dropped == {"copies in the test set": 10, "left over": 0}
    check_disjoint(roles, similarity=SIMILARITY)


def test_a_part_of_the_literatures_training_set_is_balanced():
    roles = literature(source(300), source(100, seed=1), sizes={**SIZES, "train": 200})
    assert roles.train.labels.bincount().tolist() == [50] * 4


def test_sizes_beyond_the_official_parts_are_refused():
    with pytest.raises(ValueError, match="there are 300"):
        literature(source(300), source(100, seed=1), sizes={**SIZES, "train": 301})
    with pytest.raises(ValueError, match="there are 99"):
        literature(source(300), source(99, seed=1))


# --- the check -------------------------------------------------------------------------------


def disjoint(images=None, **changes):
    roles = assign(images or source(), **changes)
    check_disjoint(roles, similarity=SIMILARITY, **changes)
    return roles


def leaking(roles, role, *, replaced):
    """Roles whose part begins with other pixels."""
    part = getattr(roles, role)
    pixels = torch.cat([replaced, part.pixels[len(replaced) :]])
    return replace(roles, **{role: replace(part, pixels=pixels)})


@pytest.mark.parametrize("role", ["train", "auxiliary", "calibration"])
def test_one_image_in_two_roles_is_caught(role):
    roles = disjoint()
    villain = leaking(roles, role, replaced=roles.target.pixels[4:5])
    with pytest.raises(OverlapError, match=f"{role} and target share 1 equal images, 1 pairs"):
        check_disjoint(villain, similarity=SIMILARITY)


@pytest.mark.parametrize("role", ["train", "auxiliary", "calibration"])
@pytest.mark.parametrize(
    "disguise", [lambda x: x.flip(-1), lambda x: x // 2 + 60], ids=["mirrored", "paler"]
)
def test_a_near_copy_in_another_role_is_caught(role, disguise):
    roles = disjoint()
    villain = leaking(roles, role, replaced=disguise(roles.target.pixels[4:7]))
    with pytest.raises(OverlapError, match=f"{role} and target share 0 equal images, 3 pairs"):
        check_disjoint(villain, similarity=SIMILARITY)


def test_a_blank_image_in_two_roles_is_caught():
    roles = disjoint()
    blank = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    villain = leaking(leaking(roles, "train", replaced=blank), "target", replaced=blank)
    with pytest.raises(OverlapError, match="train and target share 1 equal images, 0 pairs"):
        check_disjoint(villain, similarity=SIMILARITY)


def test_a_careless_assignment_is_caught():
    images = source(100)
    villain = Roles(*(images.subset(torch.arange(k, k + 40)) for k in (0, 20, 40, 60)))
    with pytest.raises(OverlapError, match="train and auxiliary share 20 equal images"):
        check_disjoint(villain, similarity=SIMILARITY)


def test_copies_within_one_role_are_no_overlap():
    roles = disjoint()
    doubled = roles.train.pixels.clone()
    doubled[1] = doubled[0]
    check_disjoint(leaking(roles, "train", replaced=doubled), similarity=SIMILARITY)


def test_a_person_in_two_roles_is_caught_unless_persons_are_shared():
    roles = assign(people(), identities="shared")
    check_disjoint(roles, similarity=SIMILARITY, identities="shared")
    with pytest.raises(OverlapError, match=r"auxiliary and target share 0 .* [1-9]\d* persons"):
        check_disjoint(roles, similarity=SIMILARITY)


def test_a_person_of_the_adversary_elsewhere_is_caught():
    roles = assign(people(), identities="auxiliary")
    check_disjoint(roles, similarity=SIMILARITY, identities="auxiliary")
    known = roles.auxiliary.identities.clone()
    known[0] = roles.target.identities[0]
    villain = replace(roles, auxiliary=replace(roles.auxiliary, identities=known))
    with pytest.raises(OverlapError, match=r"auxiliary and target share 0 .* 1 persons"):
        check_disjoint(villain, similarity=SIMILARITY, identities="auxiliary")


def test_identities_that_do_not_match_the_images_are_refused():
    with pytest.raises(ValueError, match="2 images but 3 identities"):
        LabeledImages(photographs(2), torch.zeros(2).long(), ("a",), torch.zeros(3).long())
