"""CIFAR-100."""

from torchvision import datasets

from splitbench.data.cifar10 import Cifar10


class Cifar100(Cifar10):
    """Tiny photographs: 50,000 training and 10,000 test images, colour 32 x 32, 100 classes.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Looked for and read as `Cifar10`, in ``root`` or ``root/cifar-100-python``; the labels are the
    fine ones. The arguments are those of `DownloadedSource`.
    """

    published = datasets.CIFAR100
    label_key = "fine_labels"
