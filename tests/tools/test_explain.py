"""Why: parts that add up to the answer, planted cues that are found, every encoder, and pages that bear any text."""

from __future__ import annotations

import io
import json
import re
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from hfk import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadEnsemble,
    MultiHeadEnsembleProcessor,
    MultiHeadForClassification,
    Predictor,
)
from hfk.cli import main
from hfk.tools.explain.attribution import explain, spread_points
from hfk.tools.explain.page import NOTABLE, draw_patches, png_of, render_page, render_words, write_explanation
from tests import tiny

TEXT = "해 뜨는 모습이 아름다운 동해의 바닷가"


def predictor(text: str | None = "bert", vision: str | None = None, **options) -> Predictor:
    return Predictor(tiny.model(text, vision, **options), tiny.processor(text, vision))


def photo(corner: tuple[int, int] | None = None, color: str = "red", size: int = 32) -> Image.Image:
    """Noise, with a square of one color in one of the four corners, (row, column)."""
    noise = np.random.default_rng(7).integers(60, 200, (size, size, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    if corner is not None:
        half = size // 2
        picture.paste(color, (corner[1] * half, corner[0] * half, (corner[1] + 1) * half, (corner[0] + 1) * half))
    return picture


# ------------------------------------------------------------------------------------------------- parts that add up


@pytest.mark.parametrize("kind", tiny.TEXT)
def test_words_add_up_to_the_answer_with_every_text_encoder(kind):
    model = predictor(kind)
    why = explain(model, TEXT, head="cat2", steps=64)
    assert [word.word for word in why.words] == TEXT.split()
    if kind in ("morphemes", "ngram", "side-by-side", "t5"):  # no embedding of theirs says it all of one word
        assert why.text_method == "occlusion" and why.error is None
        return
    assert why.text_method == "integrated gradients"
    logits = model.logits([model.processor.prepare_row(TEXT)])["cat2"][0]
    place = ["산", "바다", "한식"].index(why.label)
    assert why.value == pytest.approx(float(logits[place] - logits.mean()), abs=1e-4)
    assert why.baseline + why.by_text == pytest.approx(why.value, abs=0.02 * abs(why.value - why.baseline) + 1e-4)
    assert max(abs(word.score) for word in why.words) > 0


@pytest.mark.parametrize("kind", tiny.VISION)
def test_patches_add_up_with_every_vision_encoder(kind):
    why = explain(predictor(None, kind), image=photo((0, 0)), head="cat2", steps=64)
    assert why.words == [] and why.text_method is None
    assert len(why.patches) == len(why.patches[0]) >= 7 or kind in ("vit", "clip-vision", "dinov2")
    assert why.baseline + why.by_image == pytest.approx(why.value, abs=0.1 * abs(why.value - why.baseline) + 1e-3)


@pytest.mark.parametrize(
    ("fusion", "text", "image"),
    [("tokens", True, False), ("tokens", False, True), *((kind, True, True) for kind in ("tokens", "pooled", "gated"))],
)
def test_both_sides_add_up_together(fusion, text, image):
    sizes = {} if fusion == "pooled" else {"fusion_size": 16, "fusion_heads": 2}
    model = predictor("bert", "vit", fusion=fusion, **sizes)
    why = explain(model, TEXT if text else None, photo((1, 1)) if image else None, head="cat2", steps=64)
    parts = (why.by_text or 0.0) + (why.by_image or 0.0)
    assert (why.by_text is None) is not text and (why.by_image is None) is not image
    assert why.baseline + parts + why.error == pytest.approx(why.value, abs=1e-5)
    assert abs(why.error) <= 0.02 * abs(why.value - why.baseline) + 1e-4


def test_the_points_integrate_a_function_that_rises_at_once():
    def height(x):
        return np.tanh(60 * x)

    def slope(x):
        return 60 / np.cosh(60 * x) ** 2

    heights = height(np.linspace(0, 1, 17))
    points, weights = spread_points(heights, 32)
    assert weights.sum() == pytest.approx(1) and points.min() > 0 and points.max() < 1
    even = (np.arange(len(points)) + 0.5) / len(points)
    found, evenly = (weights * slope(points)).sum(), slope(even).mean()
    assert abs(found - 1) < 0.02 < abs(evenly - 1) or abs(found - 1) < abs(evenly - 1) / 3


def test_a_label_may_be_chosen_and_a_number_explained_in_its_unit():
    model = predictor()
    chosen = explain(model, TEXT, head="cat1").label
    other = next(label for label in ["자연", "음식"] if label != chosen)
    why = explain(model, TEXT, head="cat1", label=other)
    assert why.label == other and why.probability < 0.5
    assert explain(model, TEXT, head="tags").label in ("일출", "가족", "야경")
    price = explain(model, TEXT, head="price")
    assert price.label is None and price.probability is None
    answer = next(model([TEXT]))
    assert price.value == pytest.approx(answer["price"], abs=1e-3)


# -------------------------------------------------------------------------------------------------------- planted cues


def test_the_word_that_decides_is_found():
    """One word at a changing place decides between two labels, none of the two means a third: it must weigh most."""
    heads = [HeadConfig("side", ["바다", "산", "도시"])]
    model = predictor("bert", heads=heads)
    words, cues = ["아름다운", "오래된", "아이들과", "함께", "이름난", "걷는"], ["동해의", "소나무"]
    generator = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(36):
        chosen = list(generator.permutation(words)[:4])
        chosen[int(generator.integers(0, 4))] = [*cues, chosen[0]][number % 3]
        texts.append(" ".join(chosen))
        labels.append(number % 3)
    train(model, {"side": labels}, text=texts)
    for text, label in zip(texts[:6], labels[:6], strict=True):
        why = explain(model, text, steps=16)
        assert why.label == heads[0].labels[label]
        if label < 2:
            assert max(why.words, key=lambda word: word.score).word == cues[label]
            none = explain(model, text, label="도시", steps=16)
            assert min(none.words, key=lambda word: word.score).word == cues[label]


def test_the_corner_that_decides_is_found():
    """A red or a blue square in a changing corner of noise decides, and its absence: its quarter must weigh most."""
    heads = [HeadConfig("color", ["red", "blue", "none"])]
    model = predictor(None, "vit", heads=heads, image_pooling="mean")
    corners = [(row, column) for row in (0, 1) for column in (0, 1)]
    cases = [(corner, place) for corner in corners for place in (0, 1)]
    pictures = [photo(corner, heads[0].labels[place]) for corner, place in cases] + [photo()] * 4
    train(model, {"color": [place for _, place in cases] + [2] * 4}, images=pictures)
    found = 0
    for picture, (corner, place) in zip(pictures, cases, strict=False):
        why = explain(model, image=picture, steps=16)
        assert why.label == heads[0].labels[place]
        cells = np.array(why.patches)
        half = len(cells) // 2
        quarters = {
            (row, column): cells[row * half : (row + 1) * half, column * half : (column + 1) * half].sum()
            for row, column in corners
        }
        found += max(quarters, key=quarters.get) == corner
    assert found >= len(cases) - 1  # of a model that trained for a second, and by chance would be right in two


def train(model: Predictor, labels: dict[str, list[int]], steps: int = 80, **inputs) -> None:
    batch = model.processor(**inputs)
    targets = {name: torch.tensor(values) for name, values in labels.items()}
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=5e-3)
    model.model.train()
    for _ in range(steps):
        loss = model.model(**batch, labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.01:
            break
    assert loss < 0.1
    model.model.eval()


# --------------------------------------------------------------------------------------------- words, tokens, occlusion


def test_pieces_become_words_whatever_stands_before_them():
    model = Predictor(tiny.model(), tiny.processor(text_prefix="해 뜨는: "))
    why = explain(model, "  동해의   바닷가,  KTX 역에서 ")
    assert why.text == "동해의 바닷가, KTX 역에서"
    assert [why.text[word.start : word.end] for word in why.words] == [word.word for word in why.words]
    assert all(word.score is not None for word in why.words)


def test_words_behind_the_end_are_said_not_to_be_read():
    why = explain(predictor(), " ".join([TEXT] * 10))
    unread = [word.score is None for word in why.words]
    assert unread[-1] and not unread[0] and unread == sorted(unread)
    assert abs(why.error) < 0.02 * abs(why.value - why.baseline) + 1e-3
    assert "Struck out" in render_page(why) and 'class="w unread"' in render_words(why)


def test_an_encoder_without_such_embeddings_is_explained_by_leaving_words_out(monkeypatch):
    model = predictor("bert", "vit", fusion="gated", fusion_size=16)

    def missing():
        raise NotImplementedError

    monkeypatch.setattr(model.model.text_encoder, "get_input_embeddings", missing)
    why = explain(model, TEXT, head="cat2")
    assert why.text_method == "occlusion" and why.error is None and why.patches is None
    word = why.words[1]
    changed = TEXT[: word.start] + "[MASK]" + TEXT[word.end :]
    place = ["산", "바다", "한식"].index(why.label)
    logits = model.logits([(changed, None)])["cat2"][0]
    assert word.score == pytest.approx(why.value - float(logits[place] - logits.mean()), abs=1e-4)
    both = explain(model, TEXT, photo(), head="cat2", steps=8)
    assert both.text_method == "occlusion" and both.by_image is not None and "occlusion" in render_page(both)


class Bag(PreTrainedModel):
    """A text encoder whose embedding module answers with one vector a text: nothing in it belongs to a word."""

    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bag = torch.nn.EmbeddingBag(config.vocab_size, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.bag

    def forward(self, input_ids, attention_mask=None):
        vector = self.bag(input_ids)
        return BaseModelOutput(last_hidden_state=vector[:, None].expand(-1, input_ids.shape[1], -1))


def test_an_encoder_that_adds_its_tokens_up_is_explained_by_leaving_words_out():
    config = MultiHeadConfig(text_config=tiny.TEXT["bert"](), heads=tiny.heads())
    model = MultiHeadForClassification(config, text_encoder=Bag(config.text_config))
    why = explain(Predictor(model, tiny.processor()), TEXT, head="cat1")
    assert why.text_method == "occlusion" and all(word.score is not None for word in why.words)


def test_an_ensemble_is_explained_if_its_members_read_alike():
    members = [tiny.model("bert", "vit", fusion="gated", fusion_size=16) for _ in range(2)]
    ensemble = Predictor(MultiHeadEnsemble.from_members(members), tiny.processor("bert", "vit"))
    why = explain(ensemble, TEXT, photo((0, 0)), head="cat2")
    assert why.text_method == "occlusion" and why.by_text is not None and why.by_image is not None
    assert next(ensemble([{"text": TEXT, "image": photo((0, 0))}]))["cat2"][0]["label"] == why.label
    alone = explain(ensemble, image=photo((0, 0)), head="cat2")
    assert abs(alone.error) <= 0.1 * abs(alone.value - alone.baseline) + 0.02
    processors = [tiny.processor(), tiny.processor(max_length=16)]
    joined, readers = MultiHeadEnsembleProcessor.join(processors)
    different = MultiHeadEnsemble.from_members([tiny.model(), tiny.model()], readers)
    with pytest.raises(ValueError, match="explain one of its members"):
        explain(Predictor(different, joined), TEXT)


def test_others_who_ask_meanwhile_get_their_own_answer():
    model = predictor("bert", heads=[HeadConfig("cat1", ["자연", "음식"])])
    rows = [model.processor.prepare_row(sentence) for sentence in tiny.SENTENCES]
    expected = model.logits(rows)["cat1"]
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            if not torch.allclose(model.logits(rows)["cat1"], expected, atol=1e-5):
                wrong.append(1)

    # a tokenizer of its own: fast ones can't be used by two threads at once
    asker = threading.Thread(target=ask)
    mine = Predictor(model.model, tiny.processor())
    asker.start()
    for _ in range(3):
        explain(mine, TEXT)
    stop.set()
    asker.join()
    assert not wrong and not model.model.text_encoder.get_input_embeddings()._forward_hooks


def test_explaining_leaves_no_gradients_and_no_mode_behind():
    model = predictor("bert", "resnet", fusion="gated", fusion_size=16)
    explain(model, TEXT, photo())
    assert all(weight.grad is None for weight in model.model.parameters()) and not model.model.training


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"text": " "}, "no text"),
        ({"text": TEXT, "head": "cat9"}, "cat1, cat2, tags, price"),
        ({"text": TEXT, "head": "cat1", "label": "없음"}, "no label '없음'"),
        ({"text": TEXT, "head": "price", "label": "3"}, "no labels to choose"),
        ({"text": TEXT, "steps": 0}, "steps must be from 1"),
    ],
)
def test_wrong_questions_are_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        explain(predictor(), **options)


# ----------------------------------------------------------------------------------------------------- page and picture


def test_the_page_shows_hostile_text_and_runs_none():
    hostile = "<script>alert(1)</script> <img src=x onerror=alert(2)> \"&'"
    heads = [HeadConfig("<b>head</b>", ["<script>x</script>", "나"])]
    model = Predictor(tiny.model(heads=heads), tiny.processor())
    page = render_page(explain(model, hostile, label="<script>x</script>"), title="</title><script>t</script>")
    assert not re.search(r"<script|<img src=x|<b>head", tiny.without_script(page))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "&lt;script&gt;x" in page
    assert "http" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)


def test_a_marked_word_carries_its_number_and_a_faint_one_none():
    why = explain(predictor(), TEXT, head="cat1")
    most = max(abs(word.score) for word in why.words)
    marked = dict(
        re.findall(r'class="w (?:for|against) notable" style="--a:[\d.]+">([^<]+)<sub>([^<]+)', render_words(why))
    )
    assert marked and set(marked) == {word.word for word in why.words if abs(word.score) >= max(NOTABLE * most, 0.005)}
    for word in why.words:
        if word.word in marked:
            assert float(marked[word.word].replace("−", "-")) == pytest.approx(word.score, abs=0.006)


def test_the_heat_map_has_the_shape_of_the_photo_and_marks_the_strongest_cell():
    why = explain(predictor(None, "vit"), image=photo((0, 1), size=48).resize((96, 48)), head="cat2")
    drawn = draw_patches(why)
    assert drawn.size == (640, 320)
    reread = Image.open(io.BytesIO(png_of(drawn)))
    assert reread.format == "PNG" and reread.size == drawn.size
    cells = np.array(why.patches)
    y, x = np.unravel_index(np.abs(cells).argmax(), cells.shape)
    height, width = 320 / len(cells), 640 / len(cells[0])
    corner = np.array(drawn)[int(y * height + 2), int(x * width + 2)].astype(int)
    # blue is more blue than red, vermilion the other way round
    assert (corner[2] > corner[0]) == (cells[y, x] > 0)
    with pytest.raises(ValueError, match="no picture"):
        draw_patches(explain(predictor(), TEXT))


def test_a_cropped_photo_is_shown_as_it_was_seen():
    model = predictor(None, "vit")
    model.processor.image_processor.do_center_crop = True
    model.processor.image_processor.crop_size = {"height": 32, "width": 32}
    why = explain(model, image=photo((0, 0)), head="cat2")
    assert why.picture.size == (32, 32)
    assert np.abs(np.array(why.picture).astype(int) - np.array(photo((0, 0))).astype(int)).max() <= 2


def test_a_photo_of_one_color_is_explained_too():
    why = explain(predictor(None, "resnet"), image=Image.new("RGB", (40, 30), "navy"), head="cat2")
    assert why.by_image == pytest.approx(0, abs=1e-4) and draw_patches(why).size == (640, 480)


# ------------------------------------------------------------------------------------------------------------ command


def run_cli(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err


def test_the_command_writes_page_picture_and_json(checkpoint, tmp_path, capsys):
    photo((0, 0)).save(tmp_path / "photo.png")
    options = ["explain", str(checkpoint), "--text", TEXT, "--image", str(tmp_path / "photo.png"), "--head", "cat2"]
    options += ["--steps", "1"]
    code, out, _ = run_cli(capsys, *options, "--output", str(tmp_path / "why.html"))
    assert code == 0 and out.startswith("cat2: ") and f"wrote {tmp_path / 'why.html'}" in out
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and "바닷가" in page
    why = explain(Predictor.from_pretrained(str(checkpoint), "cpu"), TEXT, str(tmp_path / "photo.png"), "cat2", steps=1)
    for kind in ("png", "json"):
        write_explanation(why, tmp_path / f"why.{kind}")
    assert Image.open(tmp_path / "why.png").format == "PNG"
    written = json.loads((tmp_path / "why.json").read_text(encoding="utf-8"))
    assert written["head"] == "cat2" and len(written["words"]) == len(TEXT.split())
    assert json.loads(run_cli(capsys, *options)[1]) == written


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--text", "글", "--output", "why.pdf"], r"\.html, \.png or \.json"),
        (["--text", "글", "--output", "why.png"], "no picture"),
        ([], "no text or image"),
        (["--image", "nowhere.jpg"], "nowhere.jpg"),
    ],
)
def test_the_command_says_what_is_wrong(checkpoint, tmp_path, capsys, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli(capsys, "explain", str(checkpoint), *options)
    assert code == 2 and re.search(sentence, err) and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
