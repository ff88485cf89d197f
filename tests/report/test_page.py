import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pipeline.errors import counted
from pipeline.evaluate.label_issues import LabelIssue
from pipeline.report.data import ReportData
from pipeline.report.page import named_counts, render_report, worst_confusions
from pipeline.report.summary import render_table
from tests.report.example import example_report, with_heads, with_robustness, without_figures

VOID = {"meta", "br", "img", "link", "input", "hr", "path", "use", "rect", "circle", "image"}


class Reader(HTMLParser):
    """Collects text, attributes and unbalanced tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value) for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def data() -> ReportData:
    return example_report()


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render_report(data)


def test_strangers_are_counted_where_somebody_looked(data: ReportData, page: str) -> None:
    assert "Strangers" not in page
    last = data.generations[-1]
    assert last.pseudo_labels is not None
    reasons = last.pseudo_labels.reasons | {"stranger": 567}
    labels = replace(last.pseudo_labels, strangers=1234, reasons=reasons)
    parts = (*data.generations[:-1], replace(last, pseudo_labels=labels))
    counted = render_report(replace(data, generations=parts))
    reader = Reader(counted)
    assert (reader.open, reader.wrong) == ([], [])
    assert counted.count(f"<td>{labels.class_imbalance:.2f}</td><td>1,234</td><td>567</td>") == 1
    assert counted.count("</td><td>–</td><td>0</td></tr>") == len(parts) - 2  # nobody looked


def test_the_page_is_whole_html_that_needs_no_network(page: str) -> None:
    reader = Reader(page)
    assert page.startswith("<!doctype html>")
    assert reader.open == []
    assert reader.wrong == []
    loaded = [value for _, key, value in reader.attributes if key in ("src", "href", "xlink:href")]
    assert all(str(value).startswith(("#", "data:")) for value in loaded)
    assert "<script" not in page
    assert "@import" not in page


def test_no_number_is_parted_from_its_percent_sign(page: str) -> None:
    shown = re.sub(r"<(style|script|svg).*?</\1>", "", page, flags=re.DOTALL)
    assert re.findall(r"[0-9] %.{0,40}", shown) == []
    assert "\u00a0%" in shown


def test_the_page_says_what_was_measured(page: str, data: ReportData) -> None:
    words = Reader(page).words
    assert "Yes, the unlabelled images helped." in words
    for part in data.generations:
        assert f"{100 * part.test.score:.1f} %" in words
        assert f"{100 * part.test.low:.1f} to {100 * part.test.high:.1f} %" in words
    assert data.ensemble is not None
    assert f"{100 * data.ensemble.score:.1f} %" in words
    assert "LabelSpreading" in words
    assert "93.5 %" in words
    assert "no difference shown" in words
    assert "five_crop" in words
    for count in data.counts.values():
        assert f"{count:,}" in words


def test_the_same_data_give_the_same_page(page: str) -> None:
    assert render_report(example_report()) == page


def test_tables_and_figures_are_accessible(page: str) -> None:
    reader = Reader(page)
    headers = page.count("<th")
    scoped = [1 for tag, key, _ in reader.attributes if (tag, key) == ("th", "scope")]
    assert len(scoped) == headers - page.count("<thead")
    labels = [value for tag, key, value in reader.attributes if (tag, key) == ("svg", "aria-label")]
    assert len(labels) == page.count("<svg") == 8
    assert all(labels)
    ids = [value for _, key, value in reader.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_without_validation_the_page_says_so() -> None:
    words = Reader(render_report(example_report(skills=(5.0, 6.0), validation=False))).words
    assert "No validation images: choices that need them are off." in words
    assert "during training" not in words


def test_what_is_not_known_is_left_out() -> None:
    page = render_report(without_figures(example_report(skills=(5.0, 6.0))))
    assert page.count("<svg") == 4
    words = Reader(page).words
    assert "LabelSpreading" not in words
    assert "Pseudo-labels" not in words
    assert "None" not in words


def test_one_view_has_no_column_where_there_is_no_other(data: ReportData, page: str) -> None:
    assert "One view" in page
    assert "one view" in render_table(data)
    one = replace(data, views="centre")
    assert "One view" not in render_report(one)
    assert "test images, one centre view." in render_report(one)
    assert "one view" not in render_table(one)


def test_a_teacher_alone_makes_a_page() -> None:
    words = Reader(render_report(example_report(skills=(5.0,)))).words
    assert "Nothing to compare yet." in words
    assert "against its teacher" not in words


def test_many_classes_make_a_page() -> None:
    names = tuple(f"class {number}" for number in range(120))
    page = render_report(example_report(names, skills=(5.0, 6.0)))
    assert page.count("<svg") == 7
    assert "class 119" in Reader(page).words


def test_worst_confusions_are_the_largest_errors(data: ReportData) -> None:
    confusion = data.champion_result.test.confusion
    errors = sorted(
        (
            count
            for i, row in enumerate(confusion)
            for j, count in enumerate(row)
            if i != j and count
        ),
        reverse=True,
    )
    rows = worst_confusions(data.champion_result.test, data.classes)
    assert [images for _, _, images, _ in rows] == errors[: len(rows)]
    for name, predicted, images, share in rows:
        row = confusion[data.classes.index(name)]
        assert row[data.classes.index(predicted)] == images
        assert share == pytest.approx(images / sum(row))


def test_counts_keep_what_has_no_words_yet(data: ReportData) -> None:
    counts = named_counts(replace(data, counts={"conflicting_labels": 3, "test": 9}))
    assert counts == [("test images", 9), ("conflicting labels", 3)]


def test_what_is_not_used_is_counted_by_reason(page: str, data: ReportData) -> None:
    assert "3 files and rows are not used: why" in page
    row = '<th scope="row">a copy of a held-out image</th><td>1</td>'
    assert f'{row}<td class="words">&lt;b&gt;.png</td>' in page
    many = tuple((f"reason {number}", 1, "a") for number in range(14))
    assert "And 2 reasons more." in render_report(replace(data, unused=many))


def test_one_of_anything_is_in_the_singular() -> None:
    data = example_report(skills=(5.0, 6.0))
    counts = dict.fromkeys(("seen", "labeled", "test", "duplicates_dropped", "other_files"), 1)
    one = replace(data, counts=counts, unused=(("cut short", 1, "a.png"),))
    words = Reader(render_report(one)).words
    for shown in (
        *("file or row seen", "labelled image", "test image", "copy of a held-out image"),
        *("file of another kind", "1 file or row is not used: why"),
    ):
        assert shown in words
    assert "labelled images1" not in words
    unused = tuple((f"reason {number}", 1, "a") for number in range(13))
    assert "And 1 reason more." in Reader(render_report(replace(data, unused=unused))).words


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [(0, "image", "0 images"), (1, "class", "1 class"), (2, "class", "2 classes")],
)
def test_what_is_counted_agrees_with_its_number(count: int, noun: str, words: str) -> None:
    assert counted(count, noun) == words
    assert counted(1200, "shard") == "1,200 shards"


def test_what_the_guard_found_is_shown() -> None:
    data = example_report(skills=(5.0, 6.0))
    assert "What the guard found" not in Reader(render_report(data)).words
    first, second = data.generations
    warned = replace(second, findings=("generation 1 has no <cat>",))
    words = Reader(render_report(replace(data, generations=(first, warned)))).words
    assert "What the guard found" in words
    assert "Generation 1 has no <cat>" in words


def test_corruptions_are_shown_generation_by_generation() -> None:
    plain = example_report(skills=(5.0, 6.0))
    assert "Under corruptions" not in Reader(render_report(plain)).words
    data = with_robustness(plain)
    page = render_report(data)
    words = " ".join(Reader(page).words.split())
    assert "Accuracy on 500 test images" in words
    assert "shot noise 70.0 % 72.0 %" in words  # the means of five severities
    assert "errors relative to generation 0 1.00 0.93" in words
    assert page.count("<svg") == render_report(plain).count("<svg") + 1


def test_the_first_label_issues_are_shown_and_all_counted() -> None:
    data = example_report(skills=(5.0, 6.0))
    assert "Labels to look at" not in Reader(render_report(data)).words
    issues = tuple(
        LabelIssue(f"<image {number}>", "3", "8", 0.1, 0.85, 0.75) for number in range(12)
    )
    words = Reader(render_report(replace(data, label_issues=issues))).words
    assert "another class than the label on 12 labelled images" in words
    assert "<image 9>3810.0 %85.0 %" in words  # cells
    assert "<image 10>" not in words
    (one,) = issues[:1]
    words = Reader(render_report(replace(data, label_issues=(one,)))).words
    assert "on 1 labelled image, all in label_issues.csv" in words


def test_a_chosen_ensemble_names_its_members() -> None:
    data = replace(
        example_report(skills=(5.0, 6.0, 7.0)), ensemble_weights={"0": 0.0, "1": 0.25, "2": 0.75}
    )
    words = Reader(render_report(data)).words
    assert "(25 % generation 1, 75 % generation 2) reaches" in words


def test_a_page_of_heads_draws_what_there_is() -> None:
    page = render_report(with_heads(example_report()))
    words = Reader(page).words
    for shown in ("Out of fold", "Logistic regression on features", "Strangers", "estimated share"):
        assert shown in words
    assert "Validation</th>" not in page
    assert "Training by step" in page
    heads = with_heads(example_report(skills=(5.0, 6.0)))
    assert "Training by step" not in render_report(heads)
