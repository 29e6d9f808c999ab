"""Fashion-MNIST."""

from torchvision import datasets

from splitbench.data.mnist import Mnist


class FashionMnist(Mnist):
    """Photographs of clothes: 60,000 training and 10,000 test images, grey 28 x 28, 10 classes.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", 2017.

    Looked for in ``root``, ``root/FashionMNIST/raw`` (torchvision's layout), the folder of Debian's
    package ``dataset-fashion-mnist``, then downloaded to the second. The arguments are those of
    `DownloadedSource`.
    """

    published = datasets.FashionMNIST
    installed = ("/usr/share/datasets/fashion-mnist",)
