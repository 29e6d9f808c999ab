"""Live sets, composition and names of cuts, on small graphs whose answer is known by hand."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.feature_extraction import get_graph_node_names

from splitbench.split import CutError, Cuttable, Stages, Taps, cuts, split

IMAGES = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        y = self.conv2(self.relu(self.conv1(x)))
        y += x
        return self.relu(y).mean((2, 3))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 2, 1)
        self.b1 = nn.Conv2d(3, 2, 1)
        self.b2 = nn.Conv2d(2, 4, 3, padding=1)
        self.c = nn.MaxPool2d(3, 1, 1)

    def forward(self, x):
        return torch.cat([self.a(x), self.b2(self.b1(x)), self.c(x)], 1)


class InPlace(nn.Module):
    """Writes over its tensors in each of the ways that Python offers, and reads them again."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.conv(x)
        rectified = self.relu(x)
        x = x + rectified  # x was overwritten: this doubles it
        x.sub_(0.1)
        F.leaky_relu(x, 0.1, inplace=True)
        torch.sigmoid_(x)
        x.clamp_(max=0.6).mul_(2)
        return x.flatten(1)


class Chunked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        left, right = self.conv(x).chunk(2, 1)
        return left * right


class ClassToken(nn.Module):
    """Shapes, a parameter expanded to the batch, a buffer, and a tuple of attention."""

    def __init__(self):
        super().__init__()
        self.project = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("positions", torch.randn(64, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        n, _, h, w = x.shape
        tokens = self.project(x).reshape(n, 8, (h // 4) * (w // 4)).permute(0, 2, 1)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        tokens = tokens + self.positions[: tokens.size(1)]
        tokens = tokens + torch.arange(tokens.shape[1], device=tokens.device)[:, None]
        torch._assert(tokens.dim() == 3, "three axes")
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head((tokens + mixed)[:, 0])


class TokenFirst(nn.Module):
    """Works on (token, batch, value) between two permutations."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        x = self.linear(x.flatten(1, 2).permute(1, 0, 2))
        return torch.relu(x).permute(1, 0, 2)


class Scalar(nn.Module):
    """A Python number read from the data lives beside the tensors for a while."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        brightest = x.amax().item()
        return torch.relu(self.conv(x) * brightest)


class BatchMean(nn.Module):
    """Beside each image lives a tensor that belongs to all of them."""

    def forward(self, x):
        x = x - 0.5
        mean = torch.tanh(x.mean(0, keepdim=True))
        return (F.relu(x) - mean) * x  # not in place: x is still what it was


class Counts(nn.Module):
    """Asks the shape of something whose shape depends on the pixels."""

    def forward(self, x):
        bright = torch.nonzero(x > 0.5).shape[0]
        return torch.tanh(x.flatten(1)) * bright


class Pair(nn.Module):
    def forward(self, x, mask=None):
        if mask is not None:
            x = x * mask
        return x.amax((2, 3)), {"mean": x.mean((2, 3))}


class Inner(nn.Module):
    """Asks a shape of tensors that do not cross, of which one is folded into the batch."""

    def forward(self, x):
        folded = x.reshape(x.shape[0] * 3, 8, 8)
        y = torch.tanh(x).flatten(1)
        return y.reshape(folded.shape[0], -1).reshape(x.shape[0], x.shape[1], -1).sum(2)


TOYS = [
    Residual,
    Inception,
    InPlace,
    Chunked,
    ClassToken,
    TokenFirst,
    Scalar,
    BatchMean,
    Counts,
    Pair,
    Inner,
]


def build(toy):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return toy().eval()


def live(model, granularity="all"):
    found = cuts(model, IMAGES, granularity=granularity)
    return {cut.name: [spec.name for spec in cut.tensors] for cut in found}


def test_a_residual_block_has_the_live_sets_known_by_hand():
    assert live(build(Residual)) == {
        "input": ["input"],
        "stem": ["stem"],
        "conv1": ["stem", "conv1"],
        "relu": ["stem", "relu"],
        "conv2": ["stem", "conv2"],
        "add": ["add"],
        "relu_1": ["relu_1"],
        "output": ["mean"],
    }


def test_an_inception_branch_has_the_live_sets_known_by_hand():
    assert live(build(Inception)) == {
        "input": ["input"],
        "a": ["input", "a"],
        "b1": ["input", "a", "b1"],
        "b2": ["input", "a", "b2"],
        "c": ["a", "b2", "c"],
        "output": ["cat"],
    }


def test_tuples_are_cut_once_all_of_their_items_are_taken():
    assert live(build(Chunked)) == {
        "input": ["input"],
        "conv": ["conv"],
        "getitem_1": ["getitem", "getitem_1"],
        "output": ["mul"],
    }


def test_values_that_do_not_depend_on_the_pixels_are_never_sent():
    names = live(build(ClassToken))
    assert names["permute"] == ["permute"]  # the token is not there yet, nor are the shapes
    assert names["cat"] == ["cat"]
    assert not {"getattr", "token", "expand", "arange", "_assert"} & set(names)


def test_tensors_without_a_leading_batch_axis_are_not_cut():
    assert list(live(build(TokenFirst))) == ["input", "flatten", "output"]


def test_tensors_shared_by_the_batch_are_not_cut():
    assert live(build(BatchMean)) == {
        "input": ["input"],
        "sub": ["sub"],
        "sub_1": ["sub", "sub_1"],
        "output": ["mul"],
    }


def test_sizes_that_depend_on_the_pixels_are_not_sent():
    assert list(live(build(Counts))) == ["input", "gt", "output"]


def test_numbers_read_from_the_data_are_not_sent():
    assert list(live(build(Scalar))) == ["input", "mul", "output"]


def test_several_outputs_cross_together_at_the_end():
    assert live(build(Pair))["output"] == ["amax", "mean"]


@pytest.mark.parametrize("toy", TOYS)
def test_server_after_client_is_the_model_bitwise_at_every_cut_and_other_batch_sizes(toy):
    model = build(toy)
    cuttable = Cuttable(model, IMAGES[:1])
    for cut in cuttable.cuts("all"):
        parts = cuttable.split(cut)
        for images in (IMAGES, IMAGES[:1]):
            features = parts.client(images)
            got, wanted = parts.server(features), model(images)
            torch.testing.assert_close(got, wanted, rtol=0, atol=0, msg=f"{cut.name}: {{}}")
            shapes = [tuple(tensor.shape) for tensor in features]
            assert shapes == [(len(images), *spec.shape) for spec in cut.tensors], cut.name


@pytest.mark.parametrize("toy", TOYS)
def test_three_parts_are_the_model_bitwise_at_every_pair_of_cuts(toy):
    model = build(toy)
    cuttable = Cuttable(model, IMAGES[:1])
    wanted = model(IMAGES)
    for near, far in combinations(cuttable.cuts("all"), 2):
        crossing = cuttable.middle(near, far)(cuttable.split(near).client(IMAGES))
        got = cuttable.split(far).server(crossing)
        torch.testing.assert_close(
            got, wanted, rtol=0, atol=0, msg=f"{near.name}, {far.name}: {{}}"
        )


def test_nothing_lies_between_two_cuts_in_the_wrong_order():
    cuttable = Cuttable(build(Residual), IMAGES)
    with pytest.raises(CutError, match="between 'relu' and 'stem'"):
        cuttable.middle("relu", "stem")
    with pytest.raises(CutError, match="between 'stem' and 'stem'"):
        cuttable.middle("stem", "stem")


def test_a_middle_has_its_own_weights_and_only_those_that_it_needs():
    model = build(Residual)
    middle = Cuttable(model, IMAGES).middle("stem", "conv1")
    assert set(middle.state_dict()) == {"conv1.weight", "conv1.bias"}
    assert middle.state_dict()["conv1.weight"].data_ptr() != model.conv1.weight.data_ptr()


@pytest.mark.parametrize("toy", TOYS)
def test_taps_equal_the_separate_clients_and_cost_one_forward(toy):
    model = build(toy)
    cuttable = Cuttable(model, IMAGES)
    names = [cut.name for cut in cuttable.cuts("all")]
    taps = Taps(model, IMAGES, names)
    features = taps(IMAGES)
    assert taps.forwards == 1
    assert list(features) == list(taps.cuts) == names
    for name in names:
        wanted = cuttable.split(name).client(IMAGES)
        torch.testing.assert_close(features[name], wanted, rtol=0, atol=0)


def test_taps_run_each_layer_once_and_none_beyond_the_deepest_cut():
    taps = Taps(build(Residual), IMAGES, ["stem", "conv1"])
    calls = []
    for name, module in taps.client.named_children():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    taps(IMAGES)
    assert calls == ["stem", "conv1"]


@st.composite
def programs(draw):
    """Random elementwise programs: each step joins two of the values so far."""
    length = draw(st.integers(1, 8))
    return [tuple(draw(st.integers(0, i)) for _ in range(2)) for i in range(length)]


class Program(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def forward(self, x):
        values = [x]
        for i, j in self.steps:
            values.append(torch.sin(values[i]) if i == j else values[i] * values[j])
        return values[-1]


@settings(max_examples=30, deadline=None)
@given(programs())
def test_live_sets_of_random_graphs_are_what_later_steps_read(steps):
    needed = {len(steps)}
    for i in reversed(range(len(steps))):
        if i + 1 in needed:
            needed |= set(steps[i])
    order = sorted(needed)  # value 0 is the image, value i + 1 that of step i
    expected = []
    for place in order:
        later = [set(steps[i - 1]) for i in order if i > place] + [{len(steps)}]
        expected.append(len({v for v in order if v <= place and any(v in use for use in later)}))
    model = Program(steps)
    image = IMAGES[:2]
    cuttable = Cuttable(model, image)
    found = cuttable.cuts("all")
    assert [len(cut.tensors) for cut in found] == expected
    for cut in found:
        parts = cuttable.split(cut)
        assert torch.equal(parts.server(parts.client(image)), model(image))


def test_names_are_those_of_torchvision():
    model = torchvision.models.resnet18().eval()
    names = get_graph_node_names(model, suppress_diff_warning=True)[1]
    found = [cut.name for cut in cuts(model, torch.rand(1, 3, 32, 32), granularity="all")]
    assert found == ["input", *names[1:-1], "output"]


def test_a_module_whose_own_name_ends_in_a_number_keeps_it():
    layers = {"conv_1": nn.Conv2d(3, 3, 1), "conv_2": nn.Conv2d(3, 3, 1), "act": nn.ReLU()}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    assert list(live(model)) == ["input", "conv_1", "conv_2", "output"]


def test_modules_called_input_or_output_do_not_hide_the_ends():
    model = Stages(input=nn.Conv2d(3, 3, 1), output=nn.ReLU(), last=nn.Flatten())
    assert live(model) == {
        "input": ["input"],
        "input_1": ["input_1"],
        "output_1": ["output_1"],
        "output": ["last"],
    }


def test_tensor_granularity_keeps_the_cuts_with_one_tensor():
    assert list(live(build(Residual), "tensor")) == ["input", "stem", "add", "relu_1", "output"]


def test_module_granularity_keeps_the_ends_of_blocks():
    body = nn.Sequential(
        torchvision.models.resnet.BasicBlock(4, 4), torchvision.models.resnet.BasicBlock(4, 4)
    )
    model = nn.Sequential()
    for name, part in {"stem": nn.Conv2d(3, 4, 1), "body": body, "pool": nn.Flatten()}.items():
        model.add_module(name, part)
    expected = ["input", "stem", "body.0.relu_1", "body.1.relu_1", "output"]
    assert list(live(model.eval(), "module")) == expected


def test_the_ends_are_marked():
    found = cuts(build(Residual), IMAGES)
    assert [cut.is_input for cut in found] == [True] + [False] * (len(found) - 1)
    assert [cut.is_output for cut in found] == [False] * (len(found) - 1) + [True]
    assert (found[0].head_flops, found[0].head_params) == (0, 0)
    assert (found[-1].tail_flops, found[-1].tail_params) == (0, 0)


def test_the_path_of_a_module_means_the_cut_where_it_ends():
    model = torchvision.models.resnet18().eval()
    cuttable = Cuttable(model, torch.rand(1, 3, 32, 32))
    assert cuttable.find("layer2").name == "layer2.1.relu_1"
    assert cuttable.find("layer2.0").name == "layer2.0.relu_1"
    assert cuttable.find("fc").name == "output"


def test_an_unknown_cut_names_similar_ones_and_how_to_list_them():
    with pytest.raises(CutError, match=r"(?s)'rleu'.*did you mean 'relu'.*splitbench.split.cuts"):
        split(build(Residual), IMAGES, "rleu")
    with pytest.raises(CutError, match="nothing is called like that"):
        split(build(Residual), IMAGES, "xyz")
    with pytest.raises(CutError, match="cannot be sent"):
        split(build(Chunked), IMAGES, "chunk")


def test_a_cut_of_another_image_shape_is_refused():
    model = build(Residual)
    other = next(c for c in cuts(model, torch.rand(1, 3, 6, 6)) if c.name == "stem")
    with pytest.raises(CutError, match="another model or image shape"):
        split(model, IMAGES, other)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="at least one example"):
        cuts(build(Residual), IMAGES[:0])
    with pytest.raises(ValueError, match="choose from"):
        cuts(build(Residual), IMAGES, granularity="layer")
    with pytest.raises(CutError, match="at least one"):
        Taps(build(Residual), IMAGES, [])
