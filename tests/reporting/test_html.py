"""The report is one safe, whole, readable page; predictions.csv reads back."""

from __future__ import annotations

import base64
import csv
import io
import re

import numpy as np
import pytest
from helpers.pages import Page

from geotl.evaluation.evaluate import Spread, evaluate, wilson
from geotl.reporting.figures import confusion_figure
from geotl.reporting.html import (
    SECTIONS,
    Picture,
    ReportContent,
    Table,
    baselines_table,
    cautions,
    classes_table,
    draws_table,
    key_figures,
    predictions_csv,
    report_html,
    scores_table,
    write_report,
)

NASTY = "<script>alert(\"x\")</script> & 'wood'"
PNG = confusion_figure([[3, 1], [0, 4]], ["a", "b"])


def judged(rivals=None, classes=("field", NASTY)):
    logits = [[2.0, 0.0]] * 6 + [[0.0, 1.0]] * 6
    return evaluate(logits, [0] * 5 + [1] * 7, classes, rounds=50, rivals=rivals)


def content(result, **changes) -> ReportContent:
    settings = {
        "title": NASTY,
        "headline": result.headline,
        "loses": result.loses,
        "summary": NASTY,
        "keys": key_figures(result),
        "facts": {NASTY: NASTY, "Seed": "0"},
        "cautions": (*cautions(result), NASTY),
        "tables": {
            "scores": scores_table(result),
            "classes": classes_table(result, ["#0072b2", "red;background:url(x)"]),
            "baselines": baselines_table(result),
            "draws": draws_table({NASTY: {"overall": Spread(0.8, 0.01, 5)}}),
            "weights": Table((NASTY,), ((NASTY,),), note=NASTY),
        },
        "pictures": {"confusion": Picture(PNG, NASTY, NASTY)},
        "commands": ((NASTY, "geotl predict <MODEL>"),),
        "recipe": f"name: {NASTY}\n",
    }
    return ReportContent(**(settings | changes))


def test_everything_given_is_escaped():
    text = report_html(content(judged()))
    page = Page(text)
    assert not page.all("script")
    assert NASTY in page.text
    assert page.text.count("alert(") >= 12
    assert "geotl predict <MODEL>" in page.text
    assert "url(" not in text


def test_the_page_asks_nothing_of_the_network():
    text = report_html(content(judged()))
    page = Page(text)
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[^\"]+", "", text))
    assert "@import" not in text
    assert not page.all("link")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert all(link["href"].startswith("#") for link in page.all("a"))
    policy = [m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy[0]["content"]


def test_pictures_are_inside_unchanged_with_words_and_size():
    (image,) = Page(report_html(content(judged()))).all("img")
    assert base64.b64decode(image["src"].split(",")[1]) == PNG
    assert image["alt"] == NASTY
    width = int.from_bytes(PNG[16:20], "big")
    assert int(image["width"]) == round(width / 1.5)


def test_a_losing_network_is_the_first_thing_said():
    result = judged({"frozen probe": wilson(12, 12), "majority class": wilson(7, 12)})
    page = Page(report_html(content(result, title="Run")))
    words = page.text.split("geotl report", 1)[1]
    assert words.strip().startswith("Run The network loses to frozen probe (1.000)")
    assert "verdict loses" in [p.get("class") for p in page.all("p")]
    assert "worse than: frozen probe" in page.text


def test_a_network_that_loses_to_nobody_starts_with_its_accuracy():
    page = Page(report_html(content(judged({"majority class": wilson(7, 12)}), title="Run")))
    words = page.text.split("geotl report", 1)[1]
    assert words.strip().startswith("Run Overall accuracy 0.917 [0.646, 0.985]")
    assert "loses" not in page.text


def test_headings_sections_and_links_agree():
    page = Page(report_html(content(judged())))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    sections = [section["id"] for section in page.all("section")]
    first, rest = ["baselines", "classes"], ["scores", "draws", "use", "facts", "weights", "recipe"]
    assert sections == [*first, *rest]
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in sections]
    assert all(cell.get("scope") in {"row", "col"} for cell in page.all("th"))


@pytest.mark.parametrize("name", list(SECTIONS))
def test_a_section_without_content_is_left_out(name):
    page = Page(report_html(ReportContent("Run", "overall accuracy 0.850")))
    assert name not in [section.get("id") for section in page.all("section")]


def test_paper_is_thought_of():
    text = report_html(ReportContent("Run", "overall accuracy 0.850"))
    assert "@media print" in text
    assert "size: A4" in text
    assert "break-inside: avoid" in text


def test_only_proper_colours_become_swatches():
    page = Page(report_html(content(judged())))
    styles = [i["style"] for i in page.all("i") if i.get("class") == "swatch"]
    assert styles == ["background:#0072b2"]


def test_undefined_values_are_dashes_and_few_tiles_are_marked():
    result = evaluate([[1.0, 0.0, 0.0]] * 6, [0] * 6, ["a", "b", "c"], rounds=20)
    page = Page(report_html(content(result)))
    assert "b * 0 – – –" in page.text
    assert "nan" not in page.text.lower()
    assert "Fewer than 5 test tiles: b, c." in page.text


def test_the_baselines_stand_in_order_with_their_difference():
    result = judged({"probe": wilson(12, 12), "majority": wilson(7, 12)})
    table = baselines_table(result)
    assert [row[0] for row in table.rows] == ["probe", "This network", "majority"]
    assert [row[3] for row in table.rows] == ["+8.3", "", "−33.3"]
    assert table.strong == 1


def test_draws_show_mean_and_sd_and_a_dash_where_nothing_was_measured():
    table = draws_table(
        {
            "net": {"overall": Spread(0.88, 0.0123, 20), "kappa": Spread(0.8, 0.02, 20)},
            "random": {"overall": Spread(0.6, float("nan"), 1)},
        }
    )
    assert table.rows == (("net", "0.880 ± 0.012", "0.800 ± 0.020"), ("random", "0.600", "–"))
    assert "20 draws" in table.note


def test_predictions_read_back_with_names_that_need_quotes():
    text = predictions_csv(["a,b.tif", "c.tif"], [1, -1], [[0.25, 0.75], [0.9, 0.1]], ["x", "y,z"])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["path"] == "a,b.tif"
    assert (rows[0]["truth"], rows[0]["predicted"], rows[0]["correct"]) == ("y,z", "y,z", "1")
    assert (rows[1]["truth"], rows[1]["predicted"], rows[1]["correct"]) == ("", "x", "")
    assert float(rows[1]["p_y,z"]) == pytest.approx(0.1)


def test_predictions_without_truths_have_no_such_columns():
    text = predictions_csv(["a.tif"], None, np.array([[0.25, 0.75]]), ["x", "y"])
    assert text.splitlines()[0] == "path,predicted,confidence,p_x,p_y"


def test_the_report_is_written_whole_as_utf8(tmp_path):
    page = ReportContent("Forêt", "overall accuracy 0.850")
    write_report(tmp_path / "report.html", page)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report_html(page)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_content_without_a_section_is_refused() -> None:
    content = ReportContent("title", "headline", tables={"lost": Table(("a",), ((1,),))})
    with pytest.raises(ValueError, match="no section of the report: lost; enter it in SECTIONS"):
        report_html(content)
