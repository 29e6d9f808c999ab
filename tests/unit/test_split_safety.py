"""What tracing refuses, and that it leaves everything else alone."""

import copy

import pytest
import torch
from torch import nn

from splitbench.split import Cuttable, Stages, Taps, UntraceableError, cuts, split

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class LooksAtTheData(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return -x if x.sum() > 0 else x


class WritesIntoAView(nn.Module):
    def forward(self, x):
        x = x * 1
        x[:, 0].mul_(2)
        return x


class WritesIntoItsInput(nn.Module):
    def forward(self, x):
        return x.add_(1)


class NoOtherForm(nn.Module):
    def forward(self, x):
        x = x * 1
        x.zero_()
        return x


class CountsCalls(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_code_that_looks_at_the_data_is_refused_with_its_cause_and_the_remedy():
    with pytest.raises(UntraceableError) as caught:
        cuts(LooksAtTheData(), IMAGES)
    message = str(caught.value)
    assert message.startswith("LooksAtTheData cannot be traced: TraceError")
    assert "control flow" in message
    assert "model = Stages(conv=model.conv)" in message


def test_stages_hold_code_that_cannot_be_traced():
    model = Stages(first=LooksAtTheData(), relu=nn.ReLU(inplace=True), last=nn.Flatten()).eval()
    assert [cut.name for cut in cuts(model, IMAGES)] == ["input", "first", "relu", "output"]
    for cut in cuts(model, IMAGES):
        parts = split(model, IMAGES, cut)
        assert torch.equal(parts.server(parts.client(IMAGES)), model(IMAGES))


def test_stages_can_be_nested_in_a_model_that_is_traced():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Stages(body=LooksAtTheData()), nn.ReLU()).eval()
    assert [cut.name for cut in cuts(model, IMAGES)] == ["input", "0", "1.body", "output"]


def test_stages_need_a_stage():
    with pytest.raises(ValueError, match="at least one"):
        Stages()


def test_a_graph_that_computes_something_else_is_refused():
    with pytest.raises(UntraceableError, match="does not compute what the model computes"):
        cuts(WritesIntoAView(), IMAGES)
    with pytest.raises(UntraceableError, match="does not compute what the model computes"):
        cuts(Stages(count=CountsCalls(), last=nn.ReLU()), IMAGES)


def test_a_wrong_graph_is_found_even_with_a_blank_example():
    with pytest.raises(UntraceableError):
        cuts(WritesIntoAView(), torch.zeros(1, 3, 8, 8))


def test_a_stage_that_overwrites_its_input_is_refused():
    model = Stages(conv=nn.Conv2d(3, 3, 1), write=WritesIntoItsInput())
    with pytest.raises(UntraceableError, match="'write' overwrites its input"):
        cuts(model, IMAGES)


def test_a_write_without_another_form_is_refused():
    with pytest.raises(UntraceableError, match="'zero_' overwrites its input"):
        cuts(NoOtherForm(), IMAGES)


def test_errors_of_the_model_itself_pass_through():
    with pytest.raises(RuntimeError, match="channels"):
        cuts(nn.Sequential(nn.Conv2d(4, 4, 1)), IMAGES)


def test_released_tensors_are_never_overwritten_later():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Hardtanh(inplace=True))
    parts = split(model, IMAGES, "0")
    features = parts.client(IMAGES)
    before = features[0].clone()
    parts.server(features)
    assert torch.equal(features[0], before)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 5))


def test_the_model_is_left_untouched():
    model = network().train()
    model[0].weight.requires_grad_(False)
    model[2].register_forward_hook(lambda *_: None)
    state = copy.deepcopy(model.state_dict())
    cuttable = Cuttable(model, IMAGES)
    cuttable.split(cuttable.cuts("all")[2])
    Taps(model, IMAGES, ["0", "2"])(IMAGES)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert type(model) is nn.Sequential
    assert all(module.training for module in model.modules())
    assert model[2].inplace
    assert len(model[2]._forward_hooks) == 1
    assert [p.requires_grad for p in model[0].parameters()] == [False, True]
    assert all(p.grad is None for p in model.parameters())


def test_the_image_is_left_untouched():
    images = IMAGES.clone()
    cuts(Stages(write=nn.ReLU(inplace=True)), images)
    parts = split(nn.Sequential(nn.Hardtanh(0, 0.5, inplace=True)), images, "input")
    parts.server(parts.client(images))
    assert torch.equal(images, IMAGES)


def test_global_state_of_torch_is_left_untouched():
    attention = nn.Sequential(nn.Flatten(1, 2), nn.TransformerEncoderLayer(8, 2, 8))
    rng = torch.random.get_rng_state()
    cuts(attention, IMAGES)
    split(network(), IMAGES, "2")
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()


def test_both_sides_are_in_eval_mode_with_parameters_of_their_own():
    model = nn.Sequential(network(), nn.Sequential(nn.Linear(5, 5), nn.ReLU())).train()
    parts = split(model, IMAGES, "0.2")
    sides = [parts.client, parts.server]
    assert not any(module.training for side in sides for module in side.modules())
    pointers = [p.data_ptr() for m in (model, *sides) for p in m.parameters()]
    assert len(set(pointers)) == len(pointers)
    names = {name for side in sides for name in side.state_dict()}
    assert names == set(model.state_dict())


def test_a_module_used_on_both_sides_is_two_modules():
    layer = nn.Conv2d(3, 3, 1)
    parts = split(nn.Sequential(layer, nn.ReLU(), layer), IMAGES, "1")
    with torch.no_grad():
        parts.client.get_submodule("0").weight.zero_()
    assert bool(parts.server.get_submodule("0").weight.any())


def test_the_server_follows_its_tensors_to_another_device():
    class Positions(nn.Module):
        def forward(self, x):
            return torch.tanh(x) + torch.arange(x.shape[-1], device=x.device)

    server = split(Positions(), IMAGES, "tanh").server
    assert server((IMAGES.to("meta"),)).device.type == "meta"


def test_each_side_keeps_the_assertions_of_its_part():
    class Checked(nn.Module):
        def forward(self, x):
            torch._assert(x.shape[1] == 3, "three channels")
            x = torch.tanh(x)
            torch._assert(x.shape[2] == 8, "eight rows")
            return torch.relu(x)

    parts = split(Checked(), IMAGES, "tanh")
    with pytest.raises(AssertionError, match="three channels"):
        parts.client(IMAGES[:, :2])
    parts.client(IMAGES[:, :, :7])
    with pytest.raises(AssertionError, match="eight rows"):
        parts.server((IMAGES[:, :, :7],))


def test_gradients_flow_from_the_loss_to_the_image_and_to_both_sides():
    parts = split(network(), IMAGES, "2")
    images = IMAGES.clone().requires_grad_()
    parts.server(parts.client(images)).square().sum().backward()
    assert bool(images.grad.any())
    assert all(
        p.grad is not None for side in (parts.client, parts.server) for p in side.parameters()
    )


def test_a_model_that_draws_randomness_in_eval_mode_can_be_cut():
    class Noisy(nn.Module):
        def forward(self, x):
            return torch.relu(x + torch.randn_like(x))

    assert [cut.name for cut in cuts(Noisy(), IMAGES)][-1] == "output"


def test_it_works_inside_inference_mode():
    model = network()
    with torch.inference_mode():
        parts = split(model, torch.rand(1, 3, 8, 8), "2")
    parts.client(IMAGES)[0].sum().backward()
    assert all(p.grad is not None for p in parts.client.parameters())
