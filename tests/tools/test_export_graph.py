"""An exported graph answers as its checkpoint does, whatever the encoders; texts also where there is no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from hfk import LightPredictor, MultiHeadEnsemble, MultiHeadEnsembleProcessor, Predictor
from hfk.inference.graph import choose_threads
from hfk.tools.export.graph import export_graph
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["해 뜨는 바닷가", "", "  조선 시대에 지어진\t오래된 절과 석탑 &amp; 카페", "KTX", "가나다 " * 90]
QUICK = [("ngram", None, None), (None, "mlp", None), ("bert", "resnet", "tokens")]
OTHERS = (
    [(text, None, None) for text in tiny.TEXT if text != "ngram"]
    + [(None, vision, None) for vision in tiny.VISION if vision != "mlp"]
    + [("bert", "resnet", "pooled"), ("modernbert", "swin", "gated")]
)


def save(folder: Path, text=None, vision=None, fusion=None, **options) -> Path:
    """A tiny checkpoint whose heads have temperatures and thresholds of their own."""
    torch.manual_seed(0)
    heads = tiny.heads()
    heads[0].temperature, heads[1].temperature, heads[2].thresholds = 1.7, 0.6, [0.3, 0.5, 0.55]
    tiny.model(text, vision, fusion=fusion or "tokens", heads=heads).save_pretrained(folder)
    tiny.processor(text, vision, **options).save_pretrained(folder)
    return folder


def rows(text, vision) -> list:
    pixels = np.random.default_rng(0).integers(0, 256, (len(TEXTS), 40, 60, 3), dtype=np.uint8)
    pictures = [None if number == 2 else Image.fromarray(values) for number, values in enumerate(pixels)]
    pictures = pictures if vision else [None] * len(TEXTS)
    pairs = zip(TEXTS if text else [None] * len(TEXTS), pictures, strict=True)
    return [{"text": one, "image": other} for one, other in pairs]


def same_answers(checkpoint: Path, graph: Path, given: list, backend: str = "onnx") -> None:
    theirs, mine = Predictor.from_pretrained(str(checkpoint)), Predictor.from_pretrained(str(graph), backend=backend)
    for size in (32, 2):  # rows of all kinds in one batch, and batches without a text or a picture
        theirs.batch_size = mine.batch_size = size
        pairs = list(zip(theirs.outputs(given, embedding=True), mine.outputs(given, embedding=True), strict=True))
        assert [one.error for one, _ in pairs] == [other.error for _, other in pairs]
        for one, other in (pair for pair in pairs if pair[0].error is None):
            np.testing.assert_allclose(other.embedding, one.embedding, rtol=1e-3, atol=1e-4)
            for name, logits in one.logits.items():
                np.testing.assert_allclose(other.logits[name], logits, rtol=1e-4, atol=1e-4)
    for one, other in zip(theirs(given), mine(given), strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"error", "price"}:
            assert [item["label"] for item in one[name]] == [item["label"] for item in other[name]]


@pytest.mark.parametrize(
    ("text", "vision", "fusion"), QUICK + [pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS]
)
def test_a_graph_answers_as_its_checkpoint(text, vision, fusion, tmp_path):
    checkpoint = save(tmp_path / "checkpoint", text, vision, fusion)
    about = export_graph(checkpoint, tmp_path / "graph")
    assert not list((tmp_path / "graph").glob("*.safetensors"))
    assert [head["name"] for head in about["heads"]] == ["cat1", "cat2", "tags", "price"]
    same_answers(checkpoint, tmp_path / "graph", rows(text, vision))


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint that cleans its texts, and its graph."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("light")
    options = {"text_prefix": "글: ", "text_cleaning": "simple", "truncation": "middle"}
    checkpoint = save(folder / "checkpoint", "textcnn", **options)
    export_graph(checkpoint, folder / "graph")
    return checkpoint, folder / "graph"


@pytest.mark.parametrize("top_k", [None, 2])
def test_texts_are_answered_without_torch(light, top_k):
    """In a process that can import neither torch nor transformers."""
    checkpoint, graph = light
    code = f"""
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "datasets", "pandas"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from hfk import LightPredictor
print(json.dumps(list(LightPredictor({str(graph)!r}, batch_size=2)(json.load(sys.stdin), top_k={top_k}))))
"""
    given = [*TEXTS, "美·中 정상 “訪韓” 무산", "\u200b"]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(given), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), list(Predictor.from_pretrained(str(checkpoint))(given, top_k=top_k))
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() and one.get("error") == other.get("error")
        for name in one.keys() & {"cat1", "cat2", "tags"}:
            assert [item["label"] for item in one[name]] == [item["label"] for item in other[name]]
            scores = [[item["score"] for item in said[name]] for said in (one, other)]
            np.testing.assert_allclose(*scores, atol=1e-5)
        assert one.get("price") == pytest.approx(other.get("price"), abs=1e-3)


def test_openvino_answers_too_from_either_file(light, tmp_path):
    checkpoint, graph = light
    same_answers(checkpoint, graph, TEXTS, "openvino")
    export_graph(checkpoint, tmp_path / "graph", "openvino")
    same_answers(checkpoint, tmp_path / "graph", TEXTS, "openvino")
    with pytest.raises(ValueError, match=r"has no model\.onnx: export it with --as onnx"):
        Predictor.from_pretrained(str(tmp_path / "graph"), backend="onnx")


def test_an_ensemble_is_one_graph(tmp_path):
    members = [Predictor.from_pretrained(str(save(tmp_path / kind, kind))) for kind in ("textcnn", "ngram")]
    members[1].processor.text_prefix = "글: "
    processor, readers = MultiHeadEnsembleProcessor.join([member.processor for member in members])
    MultiHeadEnsemble.from_members([member.model for member in members], readers).save_pretrained(tmp_path / "both")
    processor.save_pretrained(tmp_path / "both")
    export_graph(tmp_path / "both", tmp_path / "graph")
    same_answers(tmp_path / "both", tmp_path / "graph", TEXTS)
    with pytest.raises(ValueError, match=r"answer from it by hfk\.Predictor"):
        LightPredictor(tmp_path / "graph")


def test_what_int8_costs_is_written_down_and_refused_where_it_is_too_much(hfk, fails, tmp_path):
    checkpoint, table = save(tmp_path / "checkpoint", "bert"), tmp_path / "rows.csv"
    lines = [f"{sentence} {number},{['자연', '음식'][number % 2]}" for number in range(40) for sentence in TEXTS[:1]]
    table.write_text("\n".join(["text,cat1", *lines]) + "\n", encoding="utf-8")
    said = fails("export", checkpoint, tmp_path / "graph", "--int8")
    assert "name a labeled table" in said
    hfk("export", checkpoint, tmp_path / "graph", "--int8", "--data", table, "--max-loss", "1")
    about = json.loads((tmp_path / "graph" / "graph.json").read_text(encoding="utf-8"))["int8"]
    assert about["rows"] == 40 and about["heads"]["cat1"].keys() == {"score", "float32", "int8"}
    assert b"MatMulInteger" in (tmp_path / "graph" / "model.onnx").read_bytes()


def test_int8_that_costs_too_much_is_not_written(monkeypatch, tmp_path):
    checkpoint, table = save(tmp_path / "checkpoint", "textcnn"), tmp_path / "rows.csv"
    table.write_text("text,cat1\n해 뜨는 바닷가,자연\n한식당,음식\n", encoding="utf-8")
    scores = iter([{"cat1_accuracy": 0.9}, {"cat1_accuracy": 0.8}])
    monkeypatch.setattr("hfk.tools.export.graph.score_heads", lambda predictions: next(scores))
    with pytest.raises(ValueError, match=r"int8 costs head 'cat1' 0\.1000 of its accuracy on 2 rows"):
        export_graph(checkpoint, tmp_path / "graph", int8=True, data=table)
    assert not (tmp_path / "graph").exists()


def test_predict_answers_from_a_graph(light, hfk, tmp_path):
    checkpoint, graph = light
    (tmp_path / "in.csv").write_text("text\n해 뜨는 바닷가\n한식당\n", encoding="utf-8")
    hfk("predict", checkpoint, tmp_path / "in.csv", tmp_path / "torch.csv")
    hfk("predict", graph, tmp_path / "in.csv", tmp_path / "onnx.csv", "--backend", "onnx")
    one, other = ((tmp_path / name).read_text(encoding="utf-8") for name in ("torch.csv", "onnx.csv"))
    assert [line.split(",")[1] for line in one.splitlines()] == [line.split(",")[1] for line in other.splitlines()]


def test_small_models_run_in_one_thread(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [choose_threads(size, cores=8) for size in (112, 360_000, 21_000_000)] == [1, 1, 8]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert choose_threads(21_000_000) == 1


def test_a_small_model_leaves_the_threads_of_others_alone(tmp_path, monkeypatch):
    predictor, seen = Predictor.from_pretrained(str(save(tmp_path, "ngram"))), []
    monkeypatch.setattr(predictor.model, "forward", lambda **inputs: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predictor._forward([("한식당", None)])
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_a_folder_without_a_graph_says_how_to_make_one(checkpoint):
    with pytest.raises(ValueError, match=r"holds no graph: make one with `hfk export .* --as onnx`"):
        Predictor.from_pretrained(str(checkpoint), backend="onnx")
