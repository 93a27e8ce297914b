"""`hfk export --as onnx`: the whole checkpoint as one graph: encoders, fusion, heads, temperatures, consistent labels.

Batch and length are free in it. Configuration, tokenizer and the columns' names lie beside it, so that `Predictor` and
`hfk predict` answer from it as from the checkpoint, and `LightPredictor` without torch. Every graph is compared with
the checkpoint before it is written. With int8, the matrices of weights are in one byte a number; what that costs each
head is measured on labeled rows, written down, and refused where it is too much.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor, nn

from ...evaluation.metrics import score_heads
from ...files import replacing
from ...inference.graph import GRAPH_FILE, MODELS, Graph
from ...inference.graph_model import GraphModel
from ...inference.loading import load_checkpoint
from ...inference.predictor import Predictor, count_multiplications
from ...inference.table import TASK_FILE
from ...models.decoding import decide, probabilities
from ...runs.recipe import Recipe
from ...runs.run import Run, load_rows, read_labeled

SCORE_OF = {"single_label": "accuracy", "multi_label": "micro_f1", "regression": "r2"}
_TEXTS = ["해 뜨는 바닷가", "조선 시대에 지어진 오래된 절에서 하룻밤을 보낸 이야기, 그리고 2층 카페", "KTX 5분"]
_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
_TOLERANCE = 1e-4
_EAGER = ("t5", "mt5", "umt5", "swin")  # their attention reads strides that an ONNX graph has not


class Answers(nn.Module):
    """A model, with what `decoding` makes of its logits, as a function of tensors in a fixed order."""

    def __init__(self, model: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs = model, list(inputs)

    @property
    def outputs(self) -> list[str]:
        """Names of what is returned: three a head, by its number, for a head may be called anything."""
        heads = range(len(self.model.config.heads))
        return [f"hfk_{kind}_{n}" for kind in ("logits", "probabilities", "chosen") for n in heads] + ["hfk_embedding"]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Answer a batch."""
        output = self.model(**dict(zip(self.inputs, tensors, strict=True)))
        probs = probabilities(output.logits, self.model.config.heads)
        chosen = decide(probs, self.model.config.heads)
        parts = (values[head.name] for values in (output.logits, probs, chosen) for head in self.model.config.heads)
        return (*parts, output.embedding)


def export_graph(
    checkpoint: str | Path,
    output: str | Path,
    backend: str = "onnx",
    int8: bool = False,
    data: str | Path | None = None,
    max_loss: float = 0.003,
) -> dict[str, Any]:
    """Write a checkpoint or ensemble as a graph.

    Args:
        checkpoint: its folder.
        output: folder to make.
        backend: `onnx`, which OpenVINO runs too, or `openvino` for its own format.
        int8: keep the matrices of weights in one byte a number.
        data: labeled table that tells what int8 costs; by default the validation rows of the run.
        max_loss: the most that any head may lose of its score by int8: accuracy, micro-F1 of several labels, R².

    Returns:
        What stands in `graph.json`.

    Raises:
        ValueError: if the output is not empty, no equal graph can be made, or int8 costs more than `max_loss`.
        ImportError: if onnx or the backend is missing.
    """
    folder, target = Path(checkpoint), Path(output)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not empty: choose another output folder.")
    rows = _rows(folder, data) if int8 else None
    model, processor = load_checkpoint(folder, torch.float32)
    if any(getattr(part.config, "model_type", "") in _EAGER for part in model.modules() if hasattr(part, "config")):
        model.set_attn_implementation("eager")
    predictor = Predictor(model, processor)
    batch = _example(processor)
    with replacing(target) as part:
        part.mkdir()
        _save_input(processor, part)
        for name in ("config.json", TASK_FILE):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, part / name)
        about = _write(model, batch, part / MODELS["onnx"])
        about |= {
            "heads": [asdict(head) for head in model.config.heads],
            "text": _text_options(processor),
            "multiplications": count_multiplications(model),
        }
        _save(part, about)
        _compare(predictor, GraphModel(Graph(part)), batch)
        if int8:
            about["int8"] = _quantize(part, processor, rows, max_loss)
        if backend == "openvino":
            _convert(part)
            if not int8:
                _compare(predictor, GraphModel(Graph(part, backend)), batch)
        _save(part, about)
    return about


def _save_input(processor: Any, folder: Path) -> None:
    """Save the processor without code, and with its tokenizer where the checkpoint names an encoder that has it."""
    for one in getattr(processor, "processors", [processor]):
        one.encoder = None
    processor.save_parts(folder)
    options = {name: value for name, value in processor.to_dict().items() if name != "auto_map"}
    (folder / "processor_config.json").write_text(json.dumps(options, ensure_ascii=False, indent=1), encoding="utf-8")


def _save(folder: Path, about: dict[str, Any]) -> None:
    (folder / GRAPH_FILE).write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _example(processor: Any) -> dict[str, Tensor]:
    """Three rows with all that the model reads."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 96, 128, 3), dtype=np.uint8)
    texts = _TEXTS if processor.tokenizer is not None else None
    return dict(
        processor(texts, None if processor.image_processor is None else [Image.fromarray(one) for one in pixels])
    )


def _write(model: nn.Module, batch: dict[str, Tensor], file: Path) -> dict[str, Any]:
    """Write the graph; returns what is known of its inputs and outputs."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ImportError('an export to ONNX needs onnx and onnxscript: pip install "hfk[onnx]"') from None
    answers = Answers(model, batch).eval()
    rows, shapes, inputs = torch.export.Dim("rows"), [], {}
    lengths = {name: torch.export.Dim("tokens" + name.removesuffix("input_ids").strip("_"))
               for name in batch if name.endswith("input_ids")}  # fmt: skip
    for name, values in batch.items():
        kind = next((kind for kind in _TOKENS if name.endswith(kind)), None)
        free = {0: rows} if kind is None else {0: rows, 1: lengths[f"{name.removesuffix(kind)}input_ids"]}
        shapes.append(free)
        shape = [None if place in free else size for place, size in enumerate(values.shape)]
        inputs[name] = {"shape": shape, "dtype": str(values.numpy().dtype)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it speaks of torchvision
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            answers, tuple(batch.values()), dynamo=True, verbose=False, input_names=list(batch),
            output_names=answers.outputs, dynamic_shapes={"tensors": tuple(shapes)},
        )  # fmt: skip
    program.save(file)
    return {"inputs": inputs, "outputs": answers.outputs}


def _text_options(processor: Any) -> dict[str, Any] | None:
    """How texts are prepared, for `LightPredictor`; None for an ensemble of several ways, and for pictures."""
    if (
        processor.tokenizer is None
        or processor.image_processor is not None
        or getattr(processor, "backend", None) is None
    ):
        return None
    names = ("max_length", "text_prefix", "text_separator", "truncation", "text_cleaning")
    filling = {"direction": processor.backend.padding["direction"], "pad_id": processor.backend.padding["pad_id"]}
    options = {name: getattr(processor, name) for name in names}
    return options | {"names": processor.tokenizer.model_input_names, "padding": filling}


@torch.inference_mode()
def _compare(predictor: Predictor, graph: GraphModel, batch: dict[str, Tensor]) -> None:
    """Refuse a graph that does not answer as the checkpoint does, also for another number of rows."""
    for rows in (len(next(iter(batch.values()))), 1):
        own = {name: values[:rows] for name, values in batch.items()}
        expected, found = predictor.model(**own).logits, graph(**own).logits
        for name, values in expected.items():
            apart = (found[name] - values).abs().max().item()
            if not apart <= _TOLERANCE * (1 + values.abs().max().item()):
                raise ValueError(f"head {name!r}: the graph's answers are {apart:.1e} apart; it was not written.")


def _rows(folder: Path, data: str | Path | None) -> Dataset:
    """The labeled rows on which int8 is measured."""
    if data is not None:
        return read_labeled(folder, data)
    run = Run(folder)
    if not run.recipe.get("task"):
        raise ValueError(f"{folder} is no run with rows of its own: name a labeled table to measure int8 on by --data.")
    return load_rows(Recipe.read(run.recipe))[1]["validation"]


def _quantize(folder: Path, processor: Any, rows: Dataset, max_loss: float) -> dict[str, Any]:
    """Bring the weights to one byte a number, and say what that costs each head; ValueError where it is too much."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = folder / MODELS["onnx"]
    before = score_heads(Predictor(GraphModel(Graph(folder)), processor).predictions(rows, "float32"))
    whole = onnx.load(file)
    del whole.graph.value_info[:]  # shapes that no longer hold would stop it
    file.unlink()
    options = {"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(
        whole, file, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8,
        extra_options=options,
    )  # fmt: skip
    for left in folder.glob("*.onnx.data"):
        left.unlink()
    after = score_heads(Predictor(GraphModel(Graph(folder)), processor).predictions(rows, "int8"))
    heads = {}
    for head in GraphModel(Graph(folder)).config.heads:
        score = head.rules.pick(SCORE_OF)
        was, now = (scores.get(f"{head.name}_{score}") for scores in (before, after))
        if was is None:
            continue
        heads[head.name] = {"score": score, "float32": was, "int8": now}
        if was - now > max_loss:
            raise ValueError(
                f"int8 costs head {head.name!r} {was - now:.4f} of its {score} on {len(rows):,} rows, more than "
                f"--max-loss {max_loss:g}; nothing was written: raise it, or export without --int8."
            )
    return {"rows": len(rows), "heads": heads}


def _convert(folder: Path) -> None:
    """Turn the ONNX file into OpenVINO's format."""
    try:
        import openvino
    except ImportError:
        raise ImportError('an export to OpenVINO needs it: pip install "hfk[openvino]"') from None
    model = openvino.Core().read_model(folder / MODELS["onnx"])
    openvino.save_model(model, folder / MODELS["openvino"], compress_to_fp16=False)
    (folder / MODELS["onnx"]).unlink()
    for left in folder.glob("*.onnx.data"):
        left.unlink()
