"""torchvision's classifiers, with normalisation inside and a variant for small images.

Images of at most 64 x 64 pixels get a stem that keeps their resolution: the ImageNet stems would
shrink 32 x 32 pixels to 8 x 8 or less before the first block. Chains are rebuilt as named
``Sequential`` models, so that cuts are called ``normalize`` and ``layer1.0.relu`` without prefix;
parameters keep torchvision's names.
"""

from collections.abc import Sequence
from typing import Any

import torchvision.models as tv
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from splitbench.models.normalize import Normalize

_Shape = tuple[int, int, int]
_PerChannel = float | Sequence[float] | None


def resnet18(
    *,
    image_shape: _Shape,
    classes: int,
    weights: str | None = None,
    mean: _PerChannel = None,
    std: _PerChannel = None,
) -> nn.Sequential:
    """ResNet-18; small images: a 3 x 3 convolution of stride 1 and no max pooling as stem.

    Args:
        image_shape: Channels, height, width.
        classes: Number of classes; a pretrained last layer is kept only if it has as many.
        weights: Name of torchvision weights (``IMAGENET1K_V1``), None for random ones.
        mean: Normalisation; None is that of the weights, or 0.5 without weights.
        std: Likewise.

    Raises:
        ValueError: Unknown weights, or weights that do not fit these images.
        OSError: The weights are not in torch's cache and cannot be downloaded.

    References:
        He, Zhang, Ren, Sun. "Deep residual learning for image recognition". CVPR 2016.
        arXiv:1512.03385
    """
    net = tv.resnet18(num_classes=classes)
    if _is_small(image_shape):
        net.conv1 = _conv_like(net.conv1, image_shape, kernel_size=3, stride=1, padding=1)
        del net.maxpool
    else:
        net.conv1 = _conv_like(net.conv1, image_shape)
    normalize = _prepared(net, tv.ResNet18_Weights, weights, "fc.", image_shape, mean, std)
    return _chain(normalize, net, flatten_before="fc")


def vgg11(
    *,
    image_shape: _Shape,
    classes: int,
    weights: str | None = None,
    mean: _PerChannel = None,
    std: _PerChannel = None,
) -> nn.Sequential:
    """VGG-11 with batch normalisation; small images: average pooling to 1 x 1, one linear layer.

    The small variant rounds sizes up when pooling, so that 28 x 28 pixels last for five poolings.

    Args:
        image_shape: Channels, height, width.
        classes: Number of classes; a pretrained last layer is kept only if it has as many.
        weights: Name of torchvision weights (``IMAGENET1K_V1``), None for random ones.
        mean: Normalisation; None is that of the weights, or 0.5 without weights.
        std: Likewise.

    Raises:
        ValueError: Unknown weights, or weights that do not fit these images.
        OSError: The weights are not in torch's cache and cannot be downloaded.

    References:
        Simonyan, Zisserman. "Very deep convolutional networks for large-scale image recognition".
        ICLR 2015. arXiv:1409.1556
    """
    net: Any = nn.Module()
    if _is_small(image_shape):
        net.features = make_layers(cfgs["A"], batch_norm=True)
        for pool in (m for m in net.features if isinstance(m, nn.MaxPool2d)):
            pool.ceil_mode = True
        net.avgpool = nn.AdaptiveAvgPool2d(1)
        net.classifier = nn.Sequential(nn.Linear(512, classes))
    else:
        net = tv.vgg11_bn(num_classes=classes)
    net.features[0] = _conv_like(net.features[0], image_shape)
    head = "classifier.6."
    normalize = _prepared(net, tv.VGG11_BN_Weights, weights, head, image_shape, mean, std)
    return _chain(normalize, net, flatten_before="classifier")


def mobilenet_v2(
    *,
    image_shape: _Shape,
    classes: int,
    weights: str | None = None,
    mean: _PerChannel = None,
    std: _PerChannel = None,
) -> nn.Sequential:
    """MobileNetV2; small images: stride 1 in the stem and in the second group of blocks.

    Args:
        image_shape: Channels, height, width.
        classes: Number of classes; a pretrained last layer is kept only if it has as many.
        weights: Name of torchvision weights (``IMAGENET1K_V1``), None for random ones.
        mean: Normalisation; None is that of the weights, or 0.5 without weights.
        std: Likewise.

    Raises:
        ValueError: Unknown weights, or weights that do not fit these images.
        OSError: The weights are not in torch's cache and cannot be downloaded.

    References:
        Sandler, Howard, Zhu, Zhmoginov, Chen. "MobileNetV2: inverted residuals and linear
        bottlenecks". CVPR 2018. arXiv:1801.04381
    """
    net = tv.mobilenet_v2(num_classes=classes)
    stem = net.features[0]
    if _is_small(image_shape):
        stem[0] = _conv_like(stem[0], image_shape, stride=1)
        depthwise = net.features[2].conv[1][0]
        depthwise.stride = (1, 1)
    else:
        stem[0] = _conv_like(stem[0], image_shape)
    head = "classifier.1."
    normalize = _prepared(net, tv.MobileNet_V2_Weights, weights, head, image_shape, mean, std)
    classifier = net.classifier
    del net.classifier
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    net.classifier = classifier
    return _chain(normalize, net, flatten_before="classifier")


def googlenet(
    *,
    image_shape: _Shape,
    classes: int,
    weights: str | None = None,
    mean: _PerChannel = None,
    std: _PerChannel = None,
) -> nn.Sequential:
    """GoogLeNet with batch normalisation, without auxiliary heads.

    Small images: a 3 x 3 convolution of stride 1 first, and no pooling before the first block.

    Args:
        image_shape: Channels, height, width.
        classes: Number of classes; a pretrained last layer is kept only if it has as many.
        weights: Name of torchvision weights (``IMAGENET1K_V1``), None for random ones.
        mean: Normalisation; None is 0.5, with weights too (torchvision renormalises to it inside).
        std: Likewise.

    Raises:
        ValueError: Unknown weights, or weights that do not fit these images.
        OSError: The weights are not in torch's cache and cannot be downloaded.

    References:
        Szegedy et al. "Going deeper with convolutions". CVPR 2015. arXiv:1409.4842
    """
    net = tv.GoogLeNet(num_classes=classes, aux_logits=False, init_weights=True)
    first = net.conv1
    if _is_small(image_shape):
        first.conv = _conv_like(first.conv, image_shape, kernel_size=3, stride=1, padding=1)
        del net.maxpool1, net.maxpool2
    else:
        first.conv = _conv_like(first.conv, image_shape)
    mean, std = 0.5 if mean is None else mean, 0.5 if std is None else std
    normalize = _prepared(net, tv.GoogLeNet_Weights, weights, "fc.", image_shape, mean, std)
    return _chain(normalize, net, flatten_before="dropout")


def vit(
    *,
    image_shape: _Shape,
    classes: int,
    patch_size: int = 16,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    weights: str | None = None,
    mean: _PerChannel = None,
    std: _PerChannel = None,
) -> nn.Module:
    """Vision transformer; the defaults are ViT-B/16.

    Args:
        image_shape: Channels, height, width; square, a multiple of `patch_size`.
        classes: Number of classes; a pretrained last layer is kept only if it has as many.
        patch_size: Side of a patch in pixels; choose 4 for images of 32 x 32.
        layers: Encoder layers, >= 1.
        heads: Attention heads, a divisor of `width`.
        width: Length of a token; the hidden layer of each block is four times as wide.
        weights: Name of torchvision weights for ViT-B/16 (``IMAGENET1K_V1``), None for random.
        mean: Normalisation; None is that of the weights, or 0.5 without weights.
        std: Likewise.

    Raises:
        ValueError: Images that cannot be divided into patches, unknown weights, or weights that
            do not fit.
        OSError: The weights are not in torch's cache and cannot be downloaded.

    References:
        Dosovitskiy et al. "An image is worth 16x16 words: transformers for image recognition at
        scale". ICLR 2021. arXiv:2010.11929
    """
    _, height, side = image_shape
    if height != side or side % patch_size:
        raise ValueError(
            f"images must be square with a side that is a multiple of patch_size={patch_size}, "
            f"got {height} x {side}: choose another patch_size or resize the images"
        )
    net = _NormalizedTransformer(
        side, patch_size, layers, heads, width, 4 * width, num_classes=classes
    )
    net.conv_proj = _conv_like(net.conv_proj, image_shape)
    head = "heads.head."
    net.normalize = _prepared(net, tv.ViT_B_16_Weights, weights, head, image_shape, mean, std)
    return net


class _NormalizedTransformer(tv.VisionTransformer):  # type: ignore[misc]
    """Not a chain: the class token joins the patches in the forward itself."""

    normalize: Normalize

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(self.normalize(x))
        return logits


def _is_small(image_shape: _Shape) -> bool:
    return max(image_shape[1:]) <= 64


def _conv_like(conv: nn.Conv2d, image_shape: _Shape, **changes: int) -> nn.Conv2d:
    """The same convolution for images with other channels, with changes; itself if none."""
    if image_shape[0] == conv.in_channels and not changes:
        return conv
    names = ("out_channels", "kernel_size", "stride", "padding")
    keywords = {name: getattr(conv, name) for name in names} | changes
    return nn.Conv2d(image_shape[0], bias=conv.bias is not None, **keywords)


def _chain(normalize: Normalize, net: nn.Module, *, flatten_before: str) -> nn.Sequential:
    """The children of a network as a chain, under their names."""
    chain = nn.Sequential()
    chain.add_module("normalize", normalize)
    for name, child in net.named_children():
        if name == flatten_before:
            chain.add_module("flatten", nn.Flatten())
        chain.add_module(name, child)
    return chain


def _prepared(
    net: nn.Module,
    known: Any,
    name: str | None,
    head: str,
    image_shape: _Shape,
    mean: _PerChannel,
    std: _PerChannel,
) -> Normalize:
    """Load the weights into the network and return the normalisation that belongs to them."""
    if name is not None:
        if name not in known.__members__:
            raise ValueError(f"no weights {name!r}; {known.__name__} has {list(known.__members__)}")
        _load(net, known[name], head, image_shape)
        preset = known[name].transforms()
        mean = preset.mean if mean is None else mean
        std = preset.std if std is None else std
    return Normalize(
        image_shape[0], mean=0.5 if mean is None else mean, std=0.5 if std is None else std
    )


def _load(net: nn.Module, weights: Any, head: str, image_shape: _Shape) -> None:
    """Load everything but a head of another size and auxiliary heads."""
    side = weights.transforms().crop_size[0]
    misfit = ValueError(
        f"{weights} do not fit images of shape {tuple(image_shape)}: they were trained on "
        f"3 x {side} x {side}; resize the images or use weights=None"
    )
    if _is_small(image_shape) or image_shape[0] != 3:
        raise misfit
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise OSError(
            f"{weights} are not in torch's cache and cannot be downloaded ({error}): fetch "
            f"{weights.url} elsewhere and put it into $TORCH_HOME/hub/checkpoints"
        ) from error
    own = net.state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("aux")}
    for key in [key for key in own if key.startswith(head)]:
        if state[key].shape != own[key].shape:
            state[key] = own[key]
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise misfit from error
