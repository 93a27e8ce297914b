from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from hfk.tasks import load_task
from hfk.tasks.dialect import both_readings, clean_utterance, read_pairs
from hfk.tasks.samples import read_sample


def table(folder, rows, header="region\tdialect\tstandard"):
    path = folder / "pairs.tsv"
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]), encoding="utf-8")
    return path


def labeled(task, rows):
    names = task.heads[0].labels
    return [(row["text"], names[row["region"]]) for row in rows]


def test_a_pair_gives_a_row_of_its_region_and_one_of_the_standard(tmp_path):
    path = table(tmp_path, [("jeju", "집이 가게", "집에 가자"), ("jeolla", "밥 먹소", "밥 먹소")])
    task = load_task("dialect", data=path, split=None)
    rows = task.load()["train"]
    assert labeled(task, rows) == [("집이 가게", "jeju"), ("집에 가자", "standard"), ("밥 먹소", "standard")]
    assert rows["id"][:2] == ["pairs:1/dialect", "pairs:1/standard"]


def test_aihubs_form_is_read_both_ways_and_its_ids_name_the_region(tmp_path):
    path = tmp_path / "DKCI1.json"
    utterances = [
        {"id": "DKCI1.1.1.1", "form": "(마이)/(많이) 묵 {laughing} ((응))", "standard_form": "-", "speaker_id": "1"},
        {"id": "DKCI1.1.1.2", "form": "그래 &name&", "standard_form": "그래 &name&", "speaker_id": "2"},
    ]
    document = {"id": "DKCI1", "speaker": [{"id": "1"}], "utterance": utterances}
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    first, second = read_pairs(path)
    assert (first.region, first.dialect, first.standard) == ("gyeongsang", "마이 묵 응", "많이 묵 응")
    assert (first.conversation, first.speaker) == ("DKCI1", "DKCI1-1")
    assert second.dialect == second.standard == "그래"


def test_letters_are_composed_and_the_old_vowel_stays():
    assert clean_utterance("\u1100\u119e\u1110\u1175 가게") == "\u1100\u119e티 가게"
    assert clean_utterance("\u1112\u1161\u11ab") == "한"
    assert both_readings("밥 먹자") == ("밥 먹자", "밥 먹자")


def test_sides_that_cannot_match_are_left_out_and_named(tmp_path):
    path = table(
        tmp_path,
        [
            ("jeju", "집이 가게", "집에 가자"),
            ("jeju", "걸귀 둘", "새끼 낳은 암퇘지 두 마리"),
            ("jeju", "겅 허난", "그렇게 하니까"),
            ("jeju", "&name&", "&name&"),
        ],
    )
    with pytest.warns(UserWarning, match=r"pairs\.tsv: pairs of rows 2, 4 are left out"):
        assert [pair.dialect for pair in read_pairs(path)] == ["집이 가게", "겅 허난"]


def test_an_empty_side_costs_its_own_row_only(tmp_path):
    path = table(
        tmp_path, [("jeju", "집이 가게", ""), ("jeju", "이레 옵서 예", "이리 오세요"), ("jeolla", "", "밥 먹자")]
    )
    task = load_task("dialect", data=path, split=None)
    assert [text for text, _ in labeled(task, task.load()["train"])] == [
        "집이 가게", "이레 옵서 예", "이리 오세요", "밥 먹자",
    ]  # fmt: skip


def test_words_are_trained_on_and_never_scored(tmp_path):
    words = [("jeju", f"낭{n}", f"나무{n}") for n in range(20)]
    sentences = [("jeju", f"{n * 7919}번 집이 가게", f"{n * 7919}번 집에 가자") for n in range(30)]
    task = load_task("dialect", data=table(tmp_path, words + sentences))
    rows = task.load()
    texts = {split: [text for text, _ in labeled(task, part)] for split, part in rows.items()}
    assert sum(" " not in text for text in texts["train"]) == 40
    assert texts["test"] and all(" " in text for text in texts["validation"] + texts["test"])
    assert sum(map(len, texts.values())) == 100


@pytest.mark.parametrize("group", ["conversation", "speaker", "block", "pair"])
def test_no_group_is_on_two_sides(tmp_path, group):
    rows = [
        (
            "jeju" if n % 2 else "jeolla",
            f"{n * 7919} 집이 가게",
            f"{n * 7919} 집에 가자",
            f"c{n // 40}",
            "FM"[n // 20 % 2],
        )
        for n in range(400)
    ]
    path = table(tmp_path, rows, "region\tdialect\tstandard\tconversation_id\tspeaker_sex")
    of_row = {f"pairs:{place}": getattr(pair, group, None) or pair.id for place, pair in enumerate(read_pairs(path), 1)}
    loaded = load_task("dialect", data=path, split={"validation": 0.2, "test": 0.2, "group": group}).load()
    sides = [{of_row[identity.split("/")[0]] for identity in part["id"]} for part in loaded.values()]
    assert len(sides) == 3 and sum(map(len, sides)) == len(set.union(*sides))


def test_what_is_no_table_of_pairs_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="dialect-mini"):
        load_task("dialect")
    with pytest.raises(ValueError, match=r"column 'dialect' is missing from pairs\.tsv"):
        load_task("dialect", data=table(tmp_path, [("jeju", "집이 가게")], "region\ttext")).load()
    with pytest.raises(ValueError, match=r"column 'region' is missing from pairs\.tsv, and its ids"):
        load_task("dialect", data=table(tmp_path, [("집이 가게", "집에 가자")], "dialect\tstandard")).load()


def test_the_sample_has_every_class_in_every_split(monkeypatch):
    task = load_task("dialect-mini")
    rows = task.load()
    assert task.heads[0].labels == ["chungcheong", "gyeongsang", "jeju", "jeolla", "standard"]
    assert sum(map(len, rows.values())) == 240 and all(set(part["region"]) == set(range(5)) for part in rows.values())
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    monkeypatch.syspath_prepend(str(scripts))
    spec = importlib.util.spec_from_file_location("make_samples", scripts / "make_samples.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (chunk,) = read_sample("dialect_mini")[0].chunks()
    made = list(script.dialect_rows())
    assert {name: [row[name] for row in made] for name in chunk} == chunk
    assert set(Counter(chunk["region"]).values()) == {30}
    sys.modules.pop("sample_dialects", None)
