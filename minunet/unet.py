"""UNet, the estimator: arrays in, labels out, with scikit-learn's manners."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import description, devices, finding, fitting, kernels, modelfile, predicting
from .blocks import Block
from .checks import is_number, is_whole, require, shown
from .data import labels as label_codes
from .data.augment import Augmentation, Function
from .data.normalize import Normalizer
from .data.splitting import Part
from .data.weights import ignored_values, read_examples
from .evaluation import metrics
from .log import tell
from .losses import Loss
from .network import Network
from .parameters import check_parameters
from .scikit import Estimator, defaults, not_fitted
from .summary import Summary, padded_shape, summarize
from .text import printable
from .training.budget import release, require_weights
from .training.history import History, told
from .warn import warn


class UNet(Estimator):
    """A U-Net that learns to segment images from few annotated examples.

    Parameters (docs/choices.md says why each default is what it is)
    ----------
    base_channels : channels at the top level; each level below has twice as many. 16 gives 1.9 million parameters.
    depth : number of 2 x 2 poolings.
    padding : "same", or "valid", the paper's unpadded convolutions. The output has the input's size either way.
    dropout : rate after the bottleneck.
    loss : "cross_entropy", softmax and cross-entropy over pixels; "dice", whose classes count alike however small they are;
        "cross_entropy+dice", their sum; "tversky", to which missing a class costs more than inventing it; "focal", which looks
        away from what is right already; or a minunet.losses.Loss.
    block : what each level has: "double_conv", the paper's two convolutions; "residual", the same with a way past them; or a
        function (in_channels, out_channels, **settings) -> minunet.layers.Layer.
    norm : what follows each convolution of a block: None; "batch", which takes mean and variance of a batch's pixels, and in
        prediction running ones; "group" and "instance" take those of an image, for 8 groups of channels or each by itself, so
        that an image is predicted in one piece.
    deep_supervision : in training each level of the decoder has a head of its own, judged at its own size, level i with a weight
        of 1 / 2^i in the loss that is reported. Predictions take no longer. It needs a depth from 2 up, and padding "same".
    class_weight : None, "balanced" (inverse to frequency), {mask value: weight}, or weights in the order of classes_.
    border_weight : None, or a pair (w0, sigma): to a background pixel's class weight w0 exp(-(d1 + d2)^2 / (2 sigma^2)) is added,
        d1 and d2 its distances in pixels to the two nearest objects, so that narrow gaps are learned. The background is the
        lowest class, an object what is connected of another. True is the paper's (10, 5).
    optimizer : "adam"; "adamw", the same with weight decay; "sgd", with momentum; "nesterov", whose momentum looks ahead.
    learning_rate : the largest; `find_learning_rate` tells which serves.
    momentum : SGD's, and Nesterov's.
    weight_decay : Adam's and AdamW's is decoupled, SGD's an L2 penalty. None is the optimizer's own: 0.01 of AdamW, else 0.
    schedule : how the learning rate falls. "poly" and "cosine", smoothly to 0 at the end; "step", to a tenth at 1/2 and at 3/4;
        "plateau", to a tenth whenever val_loss (loss, where nothing is held out) has not fallen for 5 epochs; "one_cycle", up for
        30 % of the training, then down to 0; "constant", not at all.
    warm_up : share of the training in which the learning rate rises to its largest value first, from a hundredth of it.
    clip_norm : the largest L2 norm that the gradient may have: a longer one is scaled down to it. None lets any be.
    average : decay of a running mean of the weights, such as 0.999, which is then validated, kept and saved in place of the
        weights themselves; None keeps these.
    batch_size : patches a step.
    patch_size : side of the square patches in pixels, at most: rounded down to one that halves evenly at each pooling, and
        smaller images make smaller patches.
    max_epochs : training ends with these or with max_minutes, whichever is spent first. An epoch shows the network as
        many pixels as the training images have, in at least 25 steps.
    max_minutes : training ends with these or with max_epochs, whichever is spent first.
    augment : change each patch as other images might be: True turns, flips, scales, bends and blurs, and varies contrast,
        brightness, gamma and noise; "flips" only turns and flips; a minunet.Augmentation says how strongly; or a function of
        your own (image (H, W, C), mask (H, W) of class indices, -1 for what does not count, rng) -> (image, mask).
    normalize : "image" maps the 1st to 99th percentile of each image and channel to -1 .. 1, or those of the training images
        where its own range is far narrower, as an empty field's is; (1, 99.8) other percentiles, likewise; "dataset" takes
        those of the training set, always.
    context : slices before and after each one that are seen with it, as further channels; x is then a stack, N x H x W (x C) or a
        list of slices in their order. With `groups` each group is a stack; so are the pages of a file.
    validation_fraction : share of the images, with fewer than 10 of each image, held out to report loss and Dice; never all
        that there is of a class.
    early_stopping : end the training when val_dice, the mean Dice on what is held out, has not risen by tol for n_iter_no_change
        epochs. The model is that of the epoch where it was highest, however the training ends.
    n_iter_no_change : epochs that early_stopping waits.
    tol : what counts as a rise.
    threshold : None gives each pixel its most probable class. Of two classes, a number between 0 and 1 gives the second one
        wherever its probability is that or more; "validation" takes the number, of 0.01 to 0.99, with the highest Dice of the
        second class on what is held out, and keeps it as threshold_.
    target : what masks hold: "classes", or "instances", the number of an object at each pixel, 0 for the ground; objects that
        touch have different ones. What is learned of them is three classes, ground, inside and border: see `predict_instances`.
    warm_start : go on from the present weights, scale and classes when `fit` is called again, instead of from new ones. A new
        value in the masks is one more class. Optimizer, learning rate and history start anew.
    random_state : a whole number gives the same model each time, at any number of threads (for max_epochs; where
        max_minutes ends it, the clock has its say). None draws one, kept as random_state_; a warm start goes on with that.
    device : "cpu", "gpu" (an NVIDIA one, with CuPy: pip install 'minunet[cuda13]') or "gpu:1"; "auto" takes a GPU if it can.
    n_threads : None uses all cores, of a container its share.
    algorithm : of the 3 x 3 convolutions. "auto" is the fastest for each size; "direct", the plain sum, rounds least.
    precision : of products on a GPU. "tf32", 11 bits of each factor on tensor cores; "float32", several times slower; or
        "bf16", 8 bits, in which activations are kept too: half the memory, and faster again. "auto" is "tf32" on a GPU and
        "float32" on the CPU, which has no other. Sums and weights are float32 always.
    verbose : 0 is silent.

    Attributes after fit: classes_, n_channels_in_, n_parameters_, network_, history_ (lists by name), n_iter_ (epochs),
    best_score_ and best_epoch_ (validation Dice), held_out_ (parts of x: index, rows and columns of each; not in a model file),
    class_frequencies_ (shares of all pixels), interrupted_, random_state_, pixel_size_ (micrometres, or None), threshold_ (of
    the second class's probability, or None), smallest_object_ (pixels of the smallest object in masks of target="instances",
    else None).
    """

    classes_: NDArray
    n_channels_in_: int
    context_: int
    n_parameters_: int
    network_: Network
    normalizer_: Normalizer
    channel_axis_: bool
    snap_: bool
    pixel_size_: float | None
    smallest_object_: int | None = None  # of models from before there was one
    ignore_index_: list[int]
    joined_: dict[int, int]
    history_: History
    n_iter_: int
    best_score_: float | None
    best_epoch_: int | None
    class_frequencies_: NDArray[np.float64]
    threshold_: float | None = None  # of models from before there was one
    held_out_: list[Part]
    interrupted_: bool
    random_state_: int

    def __init__(
        self, *, base_channels: int = 16, depth: int = 4, padding: str = "same", dropout: float = 0.0,
        loss: str | Loss = "cross_entropy", block: str | Block = "double_conv", norm: str | None = None,
        deep_supervision: bool = False,
        class_weight: Any = None, border_weight: bool | tuple[float, float] | None = None,
        optimizer: str = "adam", learning_rate: float = 1e-3, momentum: float = 0.9, weight_decay: float | None = None,
        schedule: str = "poly", warm_up: float = 0.0, clip_norm: float | None = None, average: float | None = None,
        batch_size: int = 4, patch_size: int = 256, max_epochs: int = 100, max_minutes: float | None = None,
        augment: bool | str | Augmentation | Function = True, normalize: str | tuple[float, float] = "image",
        context: int = 0,
        validation_fraction: float = 0.1,
        early_stopping: bool = False, n_iter_no_change: int = 10, tol: float = 1e-4, threshold: float | str | None = None,
        target: str = "classes", warm_start: bool = False,
        random_state: int | None = None, device: str = "auto", n_threads: int | None = None, algorithm: str = "auto",
        precision: str = "auto", verbose: int = 1,
    ) -> None:  # fmt: skip
        self.base_channels = base_channels
        self.depth = depth
        self.padding = padding
        self.dropout = dropout
        self.loss = loss
        self.block = block
        self.norm = norm
        self.deep_supervision = deep_supervision
        self.class_weight = class_weight
        self.border_weight = border_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warm_up = warm_up
        self.clip_norm = clip_norm
        self.average = average
        self.batch_size = batch_size
        self.patch_size = patch_size
        self.max_epochs = max_epochs
        self.max_minutes = max_minutes
        self.augment = augment
        self.normalize = normalize
        self.context = context
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.threshold = threshold
        self.target = target
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads
        self.algorithm = algorithm
        self.precision = precision
        self.verbose = verbose

    @classmethod
    def ronneberger2015(cls, **overrides: Any) -> UNet:
        """Return a UNet with the settings of the 2015 paper; keyword arguments override them.

        64 channels, valid convolutions with mirrored borders (572 in, 388 out), one patch a step, SGD with momentum
        0.99, dropout at the end of the contracting path, weights that balance the classes and learn the borders. The paper
        leaves the learning rate and the dropout rate open.
        """
        paper: dict[str, Any] = {
            "base_channels": 64, "padding": "valid", "dropout": 0.5, "optimizer": "sgd", "momentum": 0.99,
            "learning_rate": 1e-3, "batch_size": 1, "patch_size": 388, "class_weight": "balanced", "border_weight": True,
        }  # fmt: skip
        return cls(**(paper | overrides))

    @kernels.contained
    def fit(
        self, x: ArrayLike | Sequence[ArrayLike], y: ArrayLike | Sequence[ArrayLike], *,
        sample_weight: ArrayLike | Sequence[ArrayLike] | None = None,
        validation_data: tuple[Any, Any] | tuple[Any, Any, Any] | None = None, classes: label_codes.Classes | None = None,
        ignore_index: int | Sequence[int] | None = None, groups: Sequence[Hashable] | None = None,
        pixel_size: float | None = None, callbacks: Sequence[Any] = (), checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> UNet:  # fmt: skip
        """Train on images x and masks y, from new weights unless warm_start. Return self.

        x : H x W, H x W x C, N x H x W, N x H x W x C, or a list of images of different sizes; any numbers. Large ones that lie
            on disk (numpy.memmap, zarr, h5py) are read in slices, patch by patch: the file stays open and as it is meanwhile.
        y : a mask for each image, of its size, with any whole numbers for the classes.
        sample_weight : a weight >= 0 for each image, N numbers, or for each pixel, in the form of y; 0 leaves a pixel out
            (unlabelled parts of a sparse mask), and it may be NaN. So does a masked array (numpy.ma), as x or y.
        validation_data : (x, y) to report on, instead of a share of the training images; with context, where x is not one
            stack, (x, y, groups).
        classes : the mask values that count; each pixel's value is taken for the nearest of them (in `score` too). A tuple is a
            class that has several, and is called by the first: [0, (255, 1)] for masks of 0 and 255 beside masks of 0 and 1.
        ignore_index : a mask value, or several, that is no class: a weight of 0 (in validation_data and `score`, too).
        groups : a label for each image: what shares one (a patient, a stack) is not parted between training and validation, and
            whole groups are held out. Where all share one, as the pages of a stack, a block of pages at one end is held out, and
            the page beside it is left out of both; of fewer than 10 pages, a strip of each is held out.
        pixel_size : side of a pixel of x in micrometres, one for all images, kept to be compared with that of others.
        callbacks : objects with on_epoch_end(epoch, logs), which may return True to stop, and set_model(unet) if they want it
            (docs/training-log.md).
        checkpoint : a file to write every few minutes, and at the end, so that a training that was stopped can be gone on with.
            It is a model, too: `minunet.load` reads it.
        resume : go on with the training in `checkpoint`, if there is one, to the same bits as if it had never stopped. Data and
            parameters must be what they were (max_epochs, max_minutes, n_threads and verbose may differ).

        Whatever is wrong with x, y or the parameters raises a ValueError before anything is trained or changed, and so does
        what takes more memory than there is; UserWarning where that is there, but not free. Where anything fails later, the
        model is that of the last epoch that was finished; if there was none, what it was before.
        """
        try:
            fitting.fit(
                self, x, y, sample_weight=sample_weight, validation_data=validation_data, classes=classes,
                ignore_index=ignore_index, groups=groups, pixel_size=pixel_size, callbacks=callbacks, checkpoint=checkpoint,
                resume=resume,
            )  # fmt: skip
        except MemoryError as error:
            release(error)  # the images, scaled
            raise
        return self

    @kernels.contained
    def find_learning_rate(
        self, x: ArrayLike | Sequence[ArrayLike], y: ArrayLike | Sequence[ArrayLike], *,
        sample_weight: ArrayLike | Sequence[ArrayLike] | None = None, classes: label_codes.Classes | None = None,
        ignore_index: int | Sequence[int] | None = None, groups: Sequence[Hashable] | None = None,
    ) -> finding.LearningRates:  # fmt: skip
        """Return the losses of up to 100 steps at learning rates from 1e-6 to 1, and a suggestion (Smith 2017, section 3.3).

        x, y and the others are those of `fit`. The steps are those that `fit` would begin with, on a network of their own: the
        model stays as it is. They end where the loss falls apart: its mean is above 4 times the least so far, or it is not
        finite. `suggestion` is a tenth of the rate at which the mean loss was least. `plot.learning_rate` draws it.
        ValueError as in `fit`; FloatingPointError where the very first loss is not finite.
        """
        return finding.find_learning_rate(
            self, x, y, sample_weight=sample_weight, classes=classes, ignore_index=ignore_index, groups=groups
        )

    @kernels.contained
    def predict(self, x: ArrayLike | Sequence[ArrayLike], *, tta: bool = False, out: Any = None) -> Any:
        """Return the class of each pixel, the most probable one or that of threshold_, as the masks' values, in the form of x.

        tta : take the mean of the probabilities of the 8 quarter turns and flips of each image: better, in 8 times the time.
        out : where to write the labels, part by part, for what is larger than memory: an array that takes out[region] = part
            (numpy.memmap, zarr, h5py), of the labels' shape; or a path to a new file, .npy or .tif, which is written whole or
            not at all. It is returned. x may be a numpy.memmap, or an array of zarr's or h5py's, and is read part by part.

        What is masked in x is masked in the labels. UserWarning where an image is not scaled by its own range. Of a model of
        target="instances": 0 for the ground, 1 inside an object, 2 on its border.
        """
        return predicting.labels(self._ready(), x, tta=tta, out=out)

    @kernels.contained
    def predict_proba(self, x: ArrayLike | Sequence[ArrayLike], *, tta: bool = False, out: Any = None) -> Any:
        """Return the probability of each class at each pixel: (..., H, W, K), in the order of classes_.

        tta, out : of `predict`; a path ends in .npy.
        """
        return predicting.probabilities(self._ready(), x, tta=tta, out=out)

    @kernels.contained
    def predict_instances(self, x: ArrayLike | Sequence[ArrayLike], *, tta: bool = False) -> Any:
        """Return the number of the object at each pixel, int32: 1 to n in each image, 0 for the ground; in the form of `predict`.

        Of a model of target="instances", objects that touch are parted where what is inside dips between them: a watershed shares
        out all that is rather object than ground. Less than half the smallest object of the training is left out. It takes
        scikit-image (pip install 'minunet[instances]'). Of another model, the 8-connected regions of all but the first class.
        """
        return predicting.instances(self._ready(), x, tta=tta)

    @kernels.contained
    def score(
        self, x: ArrayLike | Sequence[ArrayLike], y: ArrayLike | Sequence[ArrayLike], *, average: str | None = "macro",
        ignore_index: int | Sequence[int] | None = None, sample_weight: ArrayLike | Sequence[ArrayLike] | None = None,
        tta: bool = False,
    ) -> Any:  # fmt: skip
        """Return the Dice coefficient, 2 |A and B| / (|A| + |B|), from counts pooled over all pixels of all images.

        average="macro" is the mean over the classes present; None returns each, in the order of classes_. ignore_index is
        that of `fit` unless given; what is masked in x or y does not count either. With sample_weight, a weight >= 0 for each
        image or pixel, a pixel counts as often as its weight says. tta is that of `predict`. With target="instances", y is as
        in `fit`, and the Dice is that of its three classes (minunet.evaluation.metrics.average_precision scores objects).
        """
        if average not in ("macro", None):
            raise ValueError(f"average is {average!r}; it takes 'macro' (the mean) or None (one Dice a class)")
        predicting.require_choice(tta)
        fitted = self._ready()
        ignore = fitted.ignore_index_ if ignore_index is None else ignored_values(ignore_index)
        given = read_examples(
            x, y, sample_weight=sample_weight, ignore=ignore, n_channels=fitted.n_channels_in_, channel_axis=fitted.channel_axis_
        )
        if fitted.smallest_object_ is not None:
            given = given.of_instances(ignore)
        if fitted.snap_:
            label_codes.require_same_code(given.codes(given.images.called("y")), fitted.classes_, fitted.joined_)
        else:
            label_codes.require_known(given.of_counted(given.masks), fitted.classes_)
        truth = given.of_counted([label_codes.encode(mask, fitted.classes_, fitted.joined_) for mask in given.masks])
        predicted = given.of_counted(
            [predicting.indices(fitted, p) for p in predicting.each(fitted, given.images, tta=tta)]
        )
        weights = None if sample_weight is None else given.of_counted([w for w in given.weights if w is not None])
        dice = metrics.dice(truth, predicted, classes=range(len(fitted.classes_)), weights=weights)
        return float(np.nanmean(dice)) if average == "macro" else dice

    @kernels.contained
    def summary(self, shape: tuple[int, ...]) -> Summary:
        """Return each step's output shape, parameters, FLOPs and receptive field, and the totals, for images of this shape.

        shape : (H, W) or (N, H, W), any size: the steps are those of the image with its mirrored borders. Before fit: for
        one channel and two classes.
        """
        network = getattr(self, "network_", None)
        if network is None:
            check_parameters(self)
            self._require_weights()
            network = self._network(1, 2, 0)
        where = devices.described(kernels.place(network.flat), self.precision)
        with self._computing(network):
            return summarize(network, padded_shape(network, shape), where)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, whole or not at all. `minunet.load` reads it."""
        self._check_fitted()
        fitted = self._as_it_is()
        modelfile.save(path, fitted.network_, description.described(fitted), description.check)
        _tell("saved", path)

    def _settings(self) -> dict[str, Any]:
        """Return UNet's own parameters by name, whichever of them a subclass's constructor takes."""
        return {name: getattr(self, name) for name in defaults(UNet)}

    def _config(self, n_channels: int, n_classes: int, seed: int) -> dict[str, Any]:
        """Return what the network is made from."""
        own = {name: getattr(self, name) for name in description.OF_NETWORK}
        seen = n_channels * (2 * int(self.context) + 1)
        return {"in_channels": seen, "out_channels": n_classes, "random_state": seed, "dtype": "float32"} | own

    def _require_weights(self) -> None:
        """Refuse what takes too much, before any image is read: the weights for one channel and two classes are the fewest."""
        require_weights(self._config(1, 2, 0))

    def _network(self, n_channels: int, n_classes: int, seed: int) -> Network:
        return Network(**self._config(n_channels, n_classes, seed)).to(self.device)

    def _as_it_is(self) -> UNet:
        """Return the model of this moment: another thread may fit it anew meanwhile."""
        now = object.__new__(type(self))
        vars(now).update(vars(self))
        return now

    def _ready(self) -> UNet:
        """Return the fitted model of this moment, its network where it is to compute."""
        self._check_fitted()
        network = self.network_
        there = network.to(self.device)
        if there is not network and self.network_ is network:
            self.network_ = there  # once for all
        if self.interrupted_:
            warn(
                f"the last training of this model was cut short at epoch {self.n_iter_}. Fit it to the end for "
                "what it can do: anew, with warm_start=True, or with resume=True from a checkpoint"
            )
        return self._as_it_is()

    def _labels(self, probabilities: NDArray[np.floating]) -> NDArray:
        """Return the masks' values of probabilities (..., K)."""
        return label_codes.decode(predicting.indices(self, probabilities), self.classes_)

    def _computing(self, network: Network) -> AbstractContextManager[None]:
        """Return a context that computes where the network lies, with this estimator's threads and precision."""
        place = kernels.place(network.flat)
        return devices.computing(place, precision=self.precision, n_threads=self.n_threads, verbose=bool(self.verbose))

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise not_fitted("this UNet is not fitted yet: call fit(x, y) first, or minunet.load(path)")
        network, classes, channels = self.network_, self.classes_, self.n_channels_in_
        require(isinstance(network, Network), "network_", f"of type {type(network).__name__}", "the Network that fit has trained")
        k, c = network.out_channels, network.in_channels
        listed = isinstance(classes, np.ndarray) and classes.dtype.kind in "bui" and classes.shape == (k,)
        rising = listed and bool((classes[1:] > classes[:-1]).all())
        takes = f"the masks' values, {k} different ones in rising order, as network_ has outputs"
        require(rising, "classes_", shown(classes), takes)
        c //= 2 * self.context_ + 1
        require(is_whole(channels) and channels == c, "n_channels_in_", channels, f"{c}, as network_ takes")
        threshold = self.threshold_
        divides = threshold is None or (k == 2 and is_number(threshold) and 0 < threshold < 1)
        require(divides, "threshold_", shown(threshold), "None, or of two classes a number between 0 and 1")
        normalizes = isinstance(self.normalizer_, Normalizer)
        require(normalizes, "normalizer_", f"of type {type(self.normalizer_).__name__}", "the Normalizer that fit has made")


def load(path: str | os.PathLike[str]) -> UNet:
    """Return the model that `UNet.save` wrote; ModelFileError where the file is not one, or damaged."""
    network, said = modelfile.load(path, description.check)
    unet = UNet(**said["estimator"])
    unet.network_, unet.n_parameters_ = network, network.n_parameters
    description.restore(unet, said)
    vars(unet).update(told(unet.history_))
    unet.held_out_ = []
    _tell("loaded", path)
    return unet


def _tell(event: str, path: str | os.PathLike[str]) -> None:
    tell("model", logging.INFO, f"{event} {printable(os.fsdecode(path))}", event=event, path=os.fsdecode(path))
