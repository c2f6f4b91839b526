"""Texts of every script: what their words are, what is alike in them, and what curation keeps and finds."""

import json
from random import Random
from unicodedata import normalize

import pyarrow as pa
import pytest

from benchmarks.scripts import GOOD, LANGUAGES, PAIRS, good, judged, outcome, sentences
from k2model.curation.characters import ALONE, MARK, SCRIPT_NAMES, SCRIPTS, WORD, classes, match_of, matching
from k2model.curation.filters import rejecting_rules
from k2model.curation.normalise import clean_characters
from k2model.curation.overlap import EvaluationItem, ItemIndex
from k2model.curation.selection import recheck
from k2model.curation.texts import Texts, words_of
from k2model.errors import CorpusError
from k2model.recipe.curation import (
    CODE,
    FILES,
    K2_PROFILES,
    PROSE,
    PUNCTUATED,
    WEB,
    CurationProfile,
    DecontaminationConfig,
    QualityRule,
)
from tests.curation.planted import CONFIG, curated, prose


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_measured_sets(language):
    """Good documents stay and junk goes; copies and items are found however they are spelled."""
    found = outcome(language)
    assert found.wrong == ()
    assert found.kept == {"k2": (GOOD, GOOD), "files": (GOOD, GOOD)}
    assert all(some == of for some, of in found.rejected.values())
    assert found.identified == (GOOD, GOOD) or language == "code"
    assert found.copies[0] >= 0.95 * PAIRS
    assert {name: some for name, (some, of) in found.found.items() if some != of} == {}
    assert found.false == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_good_text_keeps_its_spelling(language):
    documents = {f"good {at}": text for at, text in enumerate(good(language)[:4])}
    left = judged(language, FILES, documents)
    for label, text in documents.items():
        assert normalize("NFC", text).rstrip("\n") in left[label][1]


@pytest.mark.parametrize(
    ("text", "words", "count"),
    [
        ("Don't re-read 3.14 x_1", ["don", "t", "re", "read", "3", "14", "x_1"], 7),
        ("今天天气", ["今", "天", "天", "气"], 2),
        ("東京タワーは333m", ["東", "京", "タ", "ワ", "ー", "は", "333m"], 2 / 2 + 4 / 3 + 1),
        ("ที่นี่", ["ที่", "นี่"], 2 / 4),
        ("ข้อ ๑๒", ["ข้", "อ", "12"], 2 / 4 + 1),
        ("می‌خواهم", ["ميخواهم"], 1),
        ("مُحَمَّدٌ ـــ الكتـــاب", ["محمد", "الكتاب"], 2),
        ("हिन्दी में", ["हिन्दी", "में"], 2),
        ("한국어 문장", [normalize("NFD", "한국어"), normalize("NFD", "문장")], 2),
        ("Ｆｕｌｌ ｗｉｄｔｈ＿１", ["full", "width_1"], 2),
        ("❤\ufe0f 👨‍👩‍👧 x", ["x"], 1),
        ("Straße ﬁne İstanbul ısı", ["strasse", "fine", "istanbul", "isi"], 4),
        ("云Google云", ["云", "google", "云"], 2),
        ("ខ្មែរ\u200bខ្មែរ", ["ខ្", "មែ", "រ"] * 2, 6 / 3),
    ],
)
def test_words_by_hand(text, words, count):
    assert words_of(text) == words
    assert Texts.of([text]).word_counts[0] == pytest.approx(count)


ALIKE = [
    ("Béziers traverse", "BE\u0301ZIERS  traverse."),
    ("Ёлка и чай", "елка и чаи\u0306"),
    ("الإسلام والقرآن ٢٠٢٤", "ٱلْإِسْلَـام و\u0627لقرآن 2024"),
    ("کتاب‌های فارسی", "كتابهاي فارسى"),
    ("ガラス", "ｶﾞﾗｽ"),
    ("한국어", normalize("NFD", "한국어")),
    ("น้ำ", normalize("NFKC", "น้ำ")),
    ("क़लम", "क\u093cलम"),
    ("x² + H₂O", "x2 + h2o"),
    ("ﻻ ﷲ", normalize("NFKC", "ﻻ ﷲ")),
    ("coöperate", "coo\u0308pe\xadrate"),
]


@pytest.mark.parametrize(("one", "other"), [*ALIKE, ("東京", "東\n京")])
def test_what_is_alike(one, other):
    assert words_of(one) == words_of(other)
    both = Texts.of([one, other])
    own, others = both.words.bounds[:2], both.words.bounds[1:]
    first, second = both.word_spans.of(own, others)
    assert first == second


@pytest.mark.parametrize(("one", "other"), [("क", "की"), ("か", "が"), ("มา", "ม้า"), ("ক", "খ"), ("L", "Ł")])
def test_what_is_another_letter(one, other):
    assert words_of(one) != words_of(other)


def test_every_normal_form_has_the_same_words():
    rng = Random(0)
    blocks = [(0x20, 0x30), (0x41, 0x250), (0x370, 0x590), (0x620, 0x660), (0x905, 0x93A), (0xE01, 0xE30)]
    blocks += [(0x1E00, 0x1F00), (0x3041, 0x30FF), (0x4E00, 0x9000), (0xAC00, 0xD7A4)]
    for _ in range(200):
        chosen = rng.sample(blocks, 3)
        text = normalize("NFC", "".join(chr(rng.randrange(*rng.choice(chosen))) for _ in range(30)))
        assert words_of(text) == words_of(normalize("NFD", text)), text


def test_the_tables_hold_together():
    own, table = classes(), matching()
    begins = (own & WORD) != 0
    begins &= (own & MARK) == 0
    assert (table.lengths[begins] > 0).all()  # a word is never compared as nothing
    assert not ((own & ALONE) != 0)[:0x250].any()
    for character in "aÉßﷺガ각٣½Ａ丽":
        code = ord(character)
        left = table.parts[table.begins[code] : table.begins[code] + table.lengths[code]]
        assert "".join(map(chr, left)) == match_of(character)
    assert set(PUNCTUATED) <= set(SCRIPTS) and SCRIPT_NAMES[0] == ""


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("An English sentence with мир in it", "Latin"),
        ("这是 a 中文 sentence，不是英文句子", "Han"), ("とても寒い冬", "Kana"),
        ("设 $f(x)=ax+b$，则 $f(1)=a+b$，所求的值为零。", "Han"), ("The word 天气 means weather.", "Latin"),
        ("123 + 4 = 127", "Latin"), ("ᏣᎳᎩ", ""), ("सच and yes, किन्तु परन्तु", "Devanagari"),
    ],
)  # fmt: skip
def test_the_main_script_is_that_of_most_letters(text, script):
    assert SCRIPT_NAMES[Texts.of(["x", text, "и"]).main_scripts[1]] == script


MATH = next(profile for profile in K2_PROFILES if profile.name == "math")


def rejected(texts, profile):
    strings = pa.array(texts, type=pa.large_string())
    return rejecting_rules(strings, Texts(strings), profile)


def test_a_rule_judges_the_scripts_it_names():
    rule = QualityRule("long", "mean_word_length", at_most=3.0, scripts=("Latin", "Greek"))
    texts = ["lengthy words", "μακριές λέξεις", "длинные слова", "12345 67890"]
    assert rejected(texts, CurationProfile("p", ("*",), rules=(rule,))) == ["long", "long", "", "long"]
    wrong = QualityRule("long", "words", scripts=("Latn",))
    with pytest.raises(CorpusError, match=r"'long' judges the script 'Latn'.*did you mean 'Latin'"):
        rejected(texts, CurationProfile("p", ("*",), rules=(wrong,)))


MIXED = {
    CODE: "# 先把输入转换成整数，再乘以二，最后返回结果；如果输入为空，就返回零\n"
    "def 计算(x):\n    value = int(x)\n    return value * 2\n",
    MATH: "関数 $f(x)=ax^2+bx+c$ が $f(1)=0$、$f(2)=3$、$f(3)=8$ を満たすとき、$a$、$b$、$c$ の値を求めよ。"
    "解答：連立方程式を解くと $a=1$、$b=0$、$c=-1$ となる。これを代入して確かめればよい。",
}


@pytest.mark.parametrize("profile", MIXED, ids=lambda profile: profile.name)
def test_words_of_one_character_are_not_too_short_beside_code_and_formulas(profile):
    assert rejected([MIXED[profile]], profile) == [""]


SHORT = [
    "今天天气很好，我们一起去公园散步，看到了很多盛开的花。",
    "東京是日本的首都，也是世界上人口最多的城市之一。",
    "北海道の冬はとても寒く、雪がたくさん降ります。",
    "วันนี้อากาศดีมาก เราจึงไปเดินเล่นที่สวนสาธารณะด้วยกัน",
    "오늘은 날씨가 아주 좋아서 우리는 모두 함께 가까운 공원에서 산책했습니다.",
    "ថ្ងៃនេះអាកាសធាតុល្អណាស់ យើងដើរលេងនៅសួនច្បារជាមួយគ្នា។",
    "ယနေ့ ရာသီဥတု ကောင်းသောကြောင့် ကျွန်ုပ်တို့ ပန်းခြံသို့ လမ်းလျှောက်သွားကြသည်။",
    "আজ আবহাওয়া খুব ভালো তাই আমরা একসাথে পার্কে হাঁটতে গেলাম।",
    "Σήμερα ο καιρός είναι καλός και πήγαμε μαζί μια βόλτα στο πάρκο.",
    "היום מזג האוויר נעים ולכן יצאנו יחד לטיול קצר בפארק.",
    "Hôm nay trời đẹp nên chúng tôi cùng nhau đi dạo trong công viên.",
]


@pytest.mark.parametrize("profile", [FILES, PROSE], ids=lambda profile: profile.name)
def test_a_sentence_is_not_too_short_in_any_script(profile):
    rules = tuple(rule for rule in profile.rules if rule.name != "no_stop_words")
    assert set(rejected(SHORT, CurationProfile("p", ("*",), rules=rules))) == {""}
    assert set(rejected([text[:4] for text in SHORT], profile)) == {"few_words"}


def test_gopher_counts_signs_as_words():
    """Of a page whose marks stand apart from its 80 words: 20 of 100 words without a letter may be, 21 may not."""
    page = " ".join(" ".join(sentences("english")[4:10]).split()[:80])
    assert [rejected([page + " |" * marks + "."], WEB) for marks in (20, 21)] == [[""], ["alphabetic_words"]]


INVISIBLE = [
    ("می‌خواهم به خانه‌ها", None),
    ("PDF\u200cها", None),
    ("The family 👨‍👩‍👧, a flag 🏳️‍🌈, 👩🏽‍⚕️", None),
    ("\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", None),
    ("ക്‍ ന്‍ ", None),
    ("क्‍ष श्री‌मान", None),
    ("ខ្ញុំ\u200bទៅ", None),
    ("བོད་\u200bཡིག ꦲꦤ\u200bꦕꦫ", None),
    ("葛\U000e0100城 ☎\ufe0e", None),
    ("عربي \u200fABC\u200f!", None),
    ("ab\u200bc d\u200de f\u200cg", "abc de fg"),
    ("\ufeffco\xadop\u2060erate\u202e!\u202c", "cooperate!"),
    ("left\u200e to \u200fright\u061c", "left to right"),
    ("hid\U000e0041\U000e0042den", "hidden"),
    ("👍\u200d done", "👍 done"),
    ("ក\u200b\u200bខ \u200b", "ក\u200bខ "),
]


@pytest.mark.parametrize(("text", "clean"), INVISIBLE)
def test_invisible_characters_stay_where_they_are_spelling(text, clean):
    assert clean_characters(text) == (text if clean is None else clean)
    assert clean_characters(clean_characters(text)) == clean_characters(text)


def quiz(prompt, answer="", name="q"):
    return EvaluationItem("quiz", name, "", prompt, answer, True, True)


@pytest.mark.parametrize(
    ("item", "document"),
    [
        (quiz("下列哪一种动物是生活在南极洲的企鹅中体型最大的一种？", "\n帝企鹅"),
         "Zoo visits:下列哪一种动物\n是生活在南极洲的企鹅中体型最大的一种?答案是帝企鹅。This page has more words."),
        (quiz(normalize("NFD", "Quelle rivière traverse la ville de Béziers avant de se jeter dans la mer ?")),
         "On demande : QUELLE RIVIERE traverse la ville de Béziers avant de se jeter dans la mer ? Fin."),
        (quiz("株式会社㍿の住所は何ですか"), "質問です。株式会社株式会社の住所は何ですか。"),
        (quiz("می‌خواهم کتاب‌های تازه را بخوانم"), "او گفت می خواهم کتاب های تازه را بخوانم و رفت"),
        (quiz("اگر یکی از کتاب‌ها گم شود چه کسی پاسخ می‌دهد؟"), "پرسید: اگر يكي از كتابها گم شود چه كسي پاسخ ميدهد"),
        (quiz("제주도에서 가장 높은 산의 이름은 무엇입니까"),
         normalize("NFD", "문제: 제주도에서 가장 높은 산의 이름은 무엇입니까?")),
    ],
)  # fmt: skip
def test_an_item_is_found_however_it_is_spelled(item, document):
    other = quiz("Which river runs through the town of Exeter before it meets the sea in Devon?", name="other")
    found = ItemIndex([other, item], DecontaminationConfig()).overlaps(
        Texts.of(["nothing", clean_characters(document)])
    )
    assert (found.text.tolist(), found.item.tolist()) == ([1], [1])
    assert found.item_end[0] <= len(clean_characters(item.text)) and found.coverage[0] > 0.8


def test_thirteen_words_are_as_many_characters():
    """26 Han: an item of which 25 in a row are there is not found, one more is."""
    letters = [chr(0x4E00 + 7 * at) for at in range(60)]
    index = ItemIndex([quiz("".join(letters[:40]))], DecontaminationConfig())
    texts = ["".join(letters[5 : 5 + count]) + "不相干的文字" for count in (25, 26)]
    assert index.overlaps(Texts.of(texts)).text.tolist() == [1]


def test_a_chinese_copy_and_a_contaminated_page_leave_the_corpus(tmp_path):
    rng, words = Random(5), "春夏秋冬山河湖海桥路门窗书画琴棋茶酒米鱼鸟虫花草风雨雪云大小多少长短高低远近"
    page = "".join(rng.choice(words) for _ in range(300))
    copy = page[:150] + "龙" + page[151:]
    item = sentences("chinese")[0]
    leak = "。".join(sentences("chinese")[5:8]) + normalize("NFKC", item)
    kept, _, _ = curated(tmp_path, [prose(page, "a"), prose(copy, "b"), prose(leak, "c")])
    assert {document["origin"] for document in kept} == {"a", "c"}
    file = tmp_path / "quiz.jsonl"
    file.write_text(json.dumps({"prompt": item, "id": "zh"}) + "\n")
    found = recheck(tmp_path / "curated", [str(file)], CONFIG)
    assert [match["item_id"] for match in found.matches()] == ["zh"]
    assert found.matches()[0]["document"]["match"].startswith("面包师每天早上六点")


def test_profiles_of_k2_name_scripts_that_exist():
    named = {script for profile in K2_PROFILES for rule in profile.rules for script in rule.scripts}
    assert named <= set(SCRIPTS) and "Latin" in named
