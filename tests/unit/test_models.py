"""The models: their cuts, their variants for small images, and torchvision's weights in them."""

from functools import cache, partial
from itertools import pairwise
from urllib.error import URLError

import pytest
import torch
import torchvision.models as tv
from torch import nn

from splitbench import models
from splitbench.models import (
    LeNet5,
    Normalize,
    SixConv,
    googlenet,
    mobilenet_v2,
    resnet18,
    vgg11,
    vit,
)
from splitbench.rng import isolated, stream
from splitbench.split import Cuttable, Taps

TINY_VIT = {"patch_size": 4, "layers": 2, "heads": 2, "width": 8}
# builder, image shape, keywords, every how many cuts are tried in the fast run
SMALL = {
    "LeNet5": (LeNet5, (1, 28, 28), {}, 1),
    "SixConv": (SixConv, (3, 16, 16), {}, 1),
    "resnet18": (resnet18, (3, 16, 16), {}, 9),
    "vgg11": (vgg11, (1, 28, 28), {}, 4),
    "mobilenet_v2": (mobilenet_v2, (3, 16, 16), {}, 19),
    "googlenet": (googlenet, (3, 16, 16), {}, 23),
    "vit": (vit, (3, 16, 16), TINY_VIT, 1),
}
LARGE = {
    "resnet18": (resnet18, ["layer1", "layer3.0.bn2", "fc"]),
    "mobilenet_v2": (mobilenet_v2, ["features.0.0", "features.5.conv.1.0", "features.18"]),
    "googlenet": (googlenet, ["maxpool2", "inception4b.branch3.0.bn", "avgpool"]),
}


def build(builder, shape, classes=10, **keywords):
    """A model with random heads whose logits depend on the image.

    Fresh ones would hide errors behind zeros. With the statistics of normalisation at their initial
    values, a deep network says the same of every image: it sees some images before.
    """
    generator = stream(0, "weights")
    with isolated(generator):
        model = builder(image_shape=shape, classes=classes, **keywords).eval()
    state = model.state_dict()
    for name, value in state.items():
        if not name.startswith("normalize.") and value.is_floating_point():
            value += 0.1 * (torch.rand(value.shape, generator=generator) - 0.5)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # what it has seen, not what it began with
        norm.train()
    with torch.no_grad():
        model(torch.rand(8, *shape, generator=generator))
    return model.eval()


@cache
def small(name):
    """One of the small models and its cuts, made once for all tests."""
    builder, shape, keywords, _ = SMALL[name]
    model = build(builder, shape, **keywords)
    return model, Cuttable(model, pixels(1, shape))


def pixels(count, shape):
    return torch.rand(count, *shape, generator=stream(0, "images"))


@torch.no_grad()
def check_composition(model, cuttable, shape, found):
    images = pixels(3, shape)
    wanted = model(images)
    assert bool(wanted.std(0).gt(1e-3).all())  # the logits depend on the image
    taps = Taps(model, images, [cut.name for cut in found])(images)
    for cut in found:
        parts = cuttable.split(cut)
        features = parts.client(images)
        assert torch.equal(parts.server(features), wanted), cut.name
        for tensor, tapped, spec in zip(features, taps[cut.name], cut.tensors, strict=True):
            assert torch.equal(tensor, tapped), cut.name
            assert tuple(tensor.shape) == (3, *spec.shape), cut.name


@pytest.mark.parametrize("name", SMALL)
def test_small_models_compose_bitwise_at_their_cuts(name):
    _, shape, _, stride = SMALL[name]
    model, cuttable = small(name)
    check_composition(model, cuttable, shape, cuttable.cuts("all")[::stride])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in SMALL.items() if row[3] > 1])
def test_small_models_compose_bitwise_at_every_cut(name):
    model, cuttable = small(name)
    check_composition(model, cuttable, SMALL[name][1], cuttable.cuts("all"))


@pytest.mark.parametrize("name", LARGE)
def test_models_for_larger_images_compose_bitwise(name):
    builder, paths = LARGE[name]
    shape = (3, 96, 96)
    model = build(builder, shape)
    cuttable = Cuttable(model, pixels(1, shape))
    check_composition(model, cuttable, shape, [cuttable.find(path) for path in paths])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "paths"),
    [
        (vit, ["conv_proj", "cat", "encoder.layers.encoder_layer_5", "encoder.ln", "getitem_5"]),
        (vgg11, ["features.0", "features.14", "avgpool", "classifier.3"]),
    ],
)
def test_models_of_imagenet_size_compose_bitwise(builder, paths):
    shape = (3, 224, 224)
    model = build(builder, shape, classes=1000)
    cuttable = Cuttable(model, pixels(1, shape))
    check_composition(model, cuttable, shape, [cuttable.find(path) for path in paths])


@pytest.mark.parametrize("name", SMALL)
def test_costs_grow_along_the_model_and_add_up(name):
    model, cuttable = small(name)
    parameters = sum(p.numel() for p in model.parameters())
    found = cuttable.cuts("all")
    total = found[0].tail_flops
    assert total > 0
    for before, cut in pairwise(found):
        assert before.head_flops <= cut.head_flops
        assert before.head_params <= cut.head_params
    for cut in found:
        assert cut.head_flops + cut.tail_flops == total
        assert cut.head_params + cut.tail_params == parameters


@pytest.mark.parametrize("name", SMALL)
def test_the_first_stage_normalizes_and_no_name_has_a_prefix(name):
    found = small(name)[1].cuts()
    assert [cut.name for cut in found[:2]] == ["input", "normalize"]
    assert found[1].tensors[0].shape == SMALL[name][1]
    assert not any("normalize." in cut.name for cut in found)


def test_six_conv_has_the_names_of_its_paper():
    found = Cuttable(build(SixConv, (3, 32, 32)), pixels(1, (3, 32, 32))).cuts()
    assert " ".join(cut.name for cut in found) == (
        "input normalize conv11 relu11 conv12 relu12 pool1 conv21 relu21 conv22 relu22 pool2 "
        "conv31 relu31 conv32 relu32 pool3 flatten fc1 sigmoid output"
    )
    by_name = {cut.name: cut for cut in found}
    assert by_name["relu22"].tensors[0].shape == (128, 16, 16)
    assert by_name["flatten"].tensors[0].shape == (2048,)


def test_blocks_of_the_residual_and_branched_models_are_their_module_cuts():
    def ends(name):
        return [cut.name for cut in small(name)[1].cuts("module")]

    assert "layer4.0.relu_1" in ends("resnet18")
    assert "layer4.0.bn1" not in ends("resnet18")
    assert "inception5a.cat" in ends("googlenet")
    assert "features.2.conv.3" in ends("mobilenet_v2")  # the block
    assert "features.2.conv.0.2" not in ends("mobilenet_v2")  # a layer in it, though one tensor
    assert ends("vit") == [
        "input",
        "normalize",
        "conv_proj",
        "encoder.layers.encoder_layer_0.add_1",
        "encoder.layers.encoder_layer_1.add_1",
        "encoder.ln",
        "output",
    ]


@pytest.mark.parametrize("builder", [resnet18, vgg11, mobilenet_v2, googlenet])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_small_variants_keep_at_least_a_quarter_of_the_resolution_for_half_of_their_stages(
    builder, shape
):
    found = Cuttable(build(builder, shape), pixels(1, shape)).cuts()
    maps = [cut.tensors[0].shape for cut in found if len(cut.tensors[0].shape) == 3]
    assert maps[2][1] == shape[1]  # the first convolution does not shrink the image
    assert maps[len(maps) // 3][1] >= shape[1] // 4
    assert found[-1].tensors[0].shape == (10,)


@pytest.mark.parametrize(
    ("builder", "reference", "shape"),
    [
        (resnet18, tv.resnet18, (3, 96, 96)),
        (mobilenet_v2, tv.mobilenet_v2, (3, 96, 96)),
        (
            partial(vit, layers=2, heads=3, width=96),
            partial(tv.VisionTransformer, 96, 16, 2, 3, 96, 384),
            (3, 96, 96),
        ),
    ],
)
def test_larger_images_get_torchvisions_own_network(builder, reference, shape):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    model = build(builder, shape, mean=mean, std=std)
    theirs = reference(num_classes=10).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("normalize.")}
    theirs.load_state_dict(state)
    images = pixels(2, shape)
    normalized = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.equal(model(images), theirs(normalized))


def trained(reference, monkeypatch, weights):
    """Stand in for a download: the state of a randomly initialised network."""
    with isolated(stream(1, "weights")):
        theirs = reference().eval()
    asked = []

    def state(self, **keywords):
        asked.append(keywords)
        return theirs.state_dict()

    monkeypatch.setattr(weights, "get_state_dict", state)
    return theirs, asked


def test_weights_bring_their_normalization_and_are_read_without_unpickling(monkeypatch):
    theirs, asked = trained(tv.resnet18, monkeypatch, tv.ResNet18_Weights)
    model = resnet18(image_shape=(3, 96, 96), classes=1000, weights="IMAGENET1K_V1").eval()
    assert asked == [{"progress": False, "check_hash": True, "weights_only": True}]
    images = pixels(2, (3, 96, 96))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (images - mean[:, None, None]) / std[:, None, None]
    assert torch.equal(model(images), theirs(normalized))


def test_weights_of_another_number_of_classes_leave_the_head_fresh(monkeypatch):
    theirs, _ = trained(tv.resnet18, monkeypatch, tv.ResNet18_Weights)
    model = resnet18(image_shape=(3, 96, 96), classes=7, weights="IMAGENET1K_V1", mean=0.0, std=1.0)
    assert torch.equal(model.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert model.fc.weight.shape == (7, 512)
    assert model.normalize.mean.flatten().tolist() == [0.0, 0.0, 0.0]


def test_googlenet_weights_mean_the_same_without_torchvisions_inner_normalization(monkeypatch):
    def reference():
        return tv.GoogLeNet(transform_input=True, init_weights=False)

    theirs, _ = trained(reference, monkeypatch, tv.GoogLeNet_Weights)
    model = googlenet(image_shape=(3, 96, 96), classes=1000, weights="IMAGENET1K_V1").eval()
    images = pixels(2, (3, 96, 96))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = theirs((images - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-5)


def test_weights_that_are_unknown_or_do_not_fit_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"no weights 'BEST'.*IMAGENET1K_V1"):
        resnet18(image_shape=(3, 96, 96), classes=10, weights="BEST")
    trained(tv.resnet18, monkeypatch, tv.ResNet18_Weights)
    for shape in ((3, 32, 32), (1, 96, 96)):
        with pytest.raises(ValueError, match="trained on 3 x 224 x 224"):
            resnet18(image_shape=shape, classes=10, weights="IMAGENET1K_V1")
    trained(lambda: tv.VisionTransformer(224, 16, 1, 1, 8, 32), monkeypatch, tv.ViT_B_16_Weights)
    with pytest.raises(ValueError, match="trained on 3 x 224 x 224"):
        vit(image_shape=(3, 96, 96), classes=10, weights="IMAGENET1K_V1", **TINY_VIT)


def test_weights_that_cannot_be_downloaded_say_where_to_put_them(monkeypatch):
    def offline(self, **keywords):
        raise URLError("no route to host")

    monkeypatch.setattr(tv.ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(OSError, match=r"no route to host.*resnet18-\w+\.pth.*TORCH_HOME"):
        resnet18(image_shape=(3, 96, 96), classes=10, weights="IMAGENET1K_V1")


def test_images_that_a_model_cannot_take_are_refused():
    with pytest.raises(ValueError, match="at least 12 x 12"):
        LeNet5(image_shape=(1, 11, 28), classes=10)
    with pytest.raises(ValueError, match="at least 8 x 8"):
        SixConv(image_shape=(3, 7, 7), classes=10)
    with pytest.raises(ValueError, match="choose another patch_size"):
        vit(image_shape=(3, 28, 28), classes=10)
    with pytest.raises(ValueError, match="square"):
        vit(image_shape=(3, 32, 16), classes=10)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (28, 28), (13, 31)])
def test_chains_of_layers_take_any_size(height, width):
    for builder in (LeNet5, SixConv):
        model = build(builder, (2, height, width), classes=3)
        assert model(pixels(2, (2, height, width))).shape == (2, 3)


def test_normalization_shifts_and_scales_each_channel():
    stage = Normalize(2, mean=(0.25, 0.5), std=0.5)
    images = torch.tensor([0.25, 1.0]).reshape(1, 2, 1, 1)
    assert stage(images).flatten().tolist() == [0.0, 1.0]
    assert not list(stage.parameters())
    assert "mean=[0.25, 0.5]" in repr(stage)


@pytest.mark.parametrize("wrong", [{"mean": (0.5, 0.5)}, {"std": (0.5, 0.5, 0.0)}, {"std": -1.0}])
def test_normalization_refuses_what_does_not_fit_the_channels(wrong):
    with pytest.raises(ValueError, match=r"mean|std"):
        Normalize(3, **wrong)


def test_initial_weights_follow_the_generator_and_leave_the_global_one_alone():
    def weights(seed):
        with isolated(stream(seed, "initialisation")):
            return nn.utils.parameters_to_vector(
                LeNet5(image_shape=(1, 28, 28), classes=10).parameters()
            )

    before = torch.random.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_public_model_is_tried_here():
    assert set(models.__all__) - {"Normalize"} == set(SMALL)
