"""How long does one inference take: minunet's network beside PyTorch, ONNX Runtime and OpenVINO, in turns?

    python bench/inference.py --config 1,512,64 --config 4,128,32 --repeat 7

A configuration is batch, side, base channels. float32, the same weights, the same number of threads for all; medians, and
ratios of medians. PyTorch is eager, channels-last, under no_grad. All logits are compared before anything is timed.
ONNX Runtime and OpenVINO get a network of fixed shape and may rearrange its weights beforehand; that time is not counted.
"""

from __future__ import annotations

from collections.abc import Callable

import measure
import numpy as np
from measure import Config

from minunet import Network, kernels

DEFAULT: list[Config] = [(1, 512, 64), (4, 128, 32)]
TOLERANCE = 1e-3  # of the largest logit: an error here is a wrong result, not rounding
Infer = Callable[[], np.ndarray]  # logits (N, H, W, K)


def main() -> None:
    """Time each configuration and print its table."""
    parser = measure.parser(__doc__, repeat=7, peers="PyTorch, ONNX Runtime and OpenVINO")
    parser.add_argument(
        "--config", action="append", type=measure.config, metavar="BATCH,SIDE,BASE", help="default: 1,512,64 and 4,128,32"
    )
    arguments = parser.parse_args()
    report = measure.Report(__doc__, arguments.json)
    peers = [] if arguments.skip_peers else available()
    results = {}
    for config in arguments.config or DEFAULT:
        runs = engines(config, peers)
        require_agreement(runs)
        seconds = measure.medians(runs, arguments.repeat, warm_up=False)
        report.table(measure.name_of(*config), ["one inference", "seconds", "minunet is"], others=15)
        for name, value in seconds.items():
            ours = seconds["minunet"]
            report.row(name, f"{value:.4f}", "" if name == "minunet" else f"{value / ours:.2f} x as fast")
        results[",".join(map(str, config))] = seconds
    report.write(seconds=results)


def available() -> list[str]:
    """Return the peers that are installed, by the name of their module; say which are skipped."""
    found = [m for m, called in (("torch", "PyTorch"), ("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO"))
             if measure.installed(m, called)]  # fmt: skip
    if {"onnxruntime", "openvino"} & {*found} and not measure.installed("onnx", "onnx, which writes the model for the others,"):
        return [m for m in found if m == "torch"]
    return found


def engines(config: Config, peers: list[str]) -> dict[str, Infer]:
    """Return what computes the logits of one network and one batch, by name."""
    batch, side, base = config
    network, (x, _) = Network(1, 2, base), measure.data(batch, side)
    runs: dict[str, Infer] = {"minunet": lambda: network(x)}
    if "torch" in peers:
        runs["PyTorch"] = torch_engine(network, x)
    if {"onnxruntime", "openvino"} & {*peers}:
        from onnx_unet import to_onnx

        model = to_onnx(network, batch, side)
        planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        if "onnxruntime" in peers:
            runs["ONNX Runtime"] = onnxruntime_engine(model, planes)
        if "openvino" in peers:
            runs["OpenVINO"] = openvino_engine(model, planes)
    return runs


def torch_engine(network: Network, x: np.ndarray) -> Infer:
    """Return PyTorch's forward pass."""
    import torch
    from torch_unet import TorchUNet, from_numpy, weights_from

    torch.set_num_threads(kernels.n_threads())
    model = weights_from(TorchUNet(base=network.base_channels), network.parameters).in_format(torch.channels_last)
    tensor = from_numpy(x)

    def infer() -> np.ndarray:
        with torch.no_grad():
            return model(tensor).permute(0, 2, 3, 1).numpy()

    return infer


def onnxruntime_engine(model: bytes, x: np.ndarray) -> Infer:
    """Return ONNX Runtime's session on its CPU provider."""
    runtime = measure.load("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = kernels.n_threads()
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0].transpose(0, 2, 3, 1)


def openvino_engine(model: bytes, x: np.ndarray) -> Infer:
    """Return OpenVINO's model on its CPU plugin, in float32 (it may choose bfloat16 otherwise)."""
    openvino = measure.load("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": kernels.n_threads(), "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    compiled = core.compile_model(core.read_model(model, b""), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer({0: x}, share_inputs=True)[0].transpose(0, 2, 3, 1)


def require_agreement(runs: dict[str, Infer]) -> None:
    """Run each once, which warms it up; stop where one's logits are not minunet's."""
    expected = runs["minunet"]()
    for name, run in runs.items():
        error = float(np.abs(run() - expected).max() / np.abs(expected).max())
        if not error <= TOLERANCE:
            raise SystemExit(f"{name}'s logits differ from minunet's by {error:.2g} of the largest")


if __name__ == "__main__":
    main()
