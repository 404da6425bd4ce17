"""The explorer, driven in a real browser; its arithmetic against `closed_form`."""

import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest

from rfkit import experiments, numpy_layers, presets, report
from rfkit.receptive_field import closed_form
from rfkit.report import live
from rfkit.report.live import layers_of


def written(body, path):
    """A page of nothing but a live figure or a table."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{path.stem}</title>'
    path.write_text(f'<!doctype html><html lang="en">{head}<body>{body}</body></html>')
    return path.as_uri()


STEPPER = "() => ['x', 'y'].map(m => [...document.querySelectorAll(`.stp-${m} rect:not(.padding) + text`)].map("
STEPPER += "t => Number(t.textContent.replace('−', '-'))))"


@pytest.mark.parametrize("kind", ["conv", "pool"])
def test_the_stepper_computes_what_the_layers_do(browser, tmp_path, kind):
    """Every setting of it, forwards and backwards, against the layers in numpy; mouse and keyboard choose the cell."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(written(report.stepper()._repr_html_(), tmp_path / "stepper.html"))
    page.select_option(".stp-kind", kind)
    x, w, g = (np.array(live.STEPS[name], float)[None, None] for name in "XWG")
    settings = itertools.product((1, 2), (0, 1), (1, 2)) if kind == "conv" else ((1, 0, 1), (2, 0, 1))
    for stride, padding, dilation in settings:
        for name, value in (("s", stride), ("p", padding), ("d", dilation)) if kind == "conv" else (("s", stride),):
            page.select_option(f".stp-{name}", str(value))
        page.select_option(".stp-pass", "forward")
        if kind == "conv":
            out, cache = numpy_layers.conv_forward(x, w, np.zeros(1), stride=stride, padding=padding, dilation=dilation)
        else:
            out, cache = numpy_layers.max_pool_forward(x, size=2, stride=stride)
        assert page.evaluate(STEPPER) == [x.ravel().tolist(), out.ravel().tolist()]
        page.select_option(".stp-pass", "backward")
        upstream = g[:, :, : out.shape[2], : out.shape[3]]
        back = (
            numpy_layers.conv_backward(upstream, cache)[0]
            if kind == "conv"
            else numpy_layers.max_pool_backward(upstream, cache)
        )
        assert page.evaluate(STEPPER) == [back.ravel().tolist(), upstream.ravel().tolist()]
    page.select_option(".stp-pass", "forward")
    page.locator(".stp-y rect[data-i='1'][data-j='0']").click()
    assert page.text_content(".stp-say").startswith("y[1, 0] ")
    page.keyboard.press("ArrowRight")
    assert page.text_content(".stp-say").startswith("y[1, 1] ") and page.locator(".stp-y rect.here").count() == 1
    assert page.locator(".stp-x rect.read").count() == (9 if kind == "conv" else 4)
    assert not problems and page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()


@pytest.fixture
def page_file(tmp_path):
    return written(report.explorer()._repr_html_(), tmp_path / "explorer.html")


@pytest.fixture(params=["desktop", "phone"])
def page(request, browser, page_file):
    phone = request.param == "phone"
    size = {"width": 390, "height": 844} if phone else {"width": 1100, "height": 900}
    context = browser.new_context(viewport=size, has_touch=phone, offline=True)
    page = context.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto(page_file)
    yield page
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def column(page, name):
    return [int(cell.text_content()) for cell in page.query_selector_all(f"tbody .{name}")]


def random_layers(rng):
    return [
        (rng.choice(["conv", "pool"]), rng.randint(1, 7), rng.randint(1, 3), rng.randint(1, 3), rng.randint(0, 3))
        for _ in range(rng.randint(1, 6))
    ]


def test_arithmetic_equals_the_closed_form(page, page_file):
    rng = random.Random(0)
    networks = [random_layers(rng) for _ in range(25)] + [layers_of("vgg19", 4), layers_of("resnet50", 3)]
    for layers in networks:
        page.goto("about:blank")
        page.goto(f"{page_file}#{report.network_link(layers, 64)}")
        _, kernels, strides, dilations, paddings = zip(*layers, strict=True)
        assert column(page, "field") == closed_form(kernels, strides, dilations)
        units, expected = 64, []
        for kernel, stride, dilation, padding in zip(kernels, strides, dilations, paddings, strict=True):
            # above an empty map nothing depends on a pixel
            units = units and max(0, (units + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
            expected.append(units)
        assert column(page, "n") == expected


def test_every_preset_loads(page):
    sizes = {}
    for name in report.explorer_presets():
        page.select_option(".rfx-preset", name)
        sizes[name] = column(page, "field")[-1]
    assert [sizes[f"VGG19-like, level {level}"] for level in (1, 2, 3, 4)] == [181, 359, 537, 715]
    assert [sizes[f"ResNet50 (3×3 path), level {level}"] for level in (1, 2, 3, 4)] == [108, 213, 318, 423]


def test_editing_adding_removing(page):
    page.select_option(".rfx-preset", "homework: three convolutions")
    assert column(page, "field") == [3, 5, 7]
    page.fill("input[aria-label='stride of layer 1']", "2")
    assert column(page, "field") == [3, 7, 11] and page.input_value(".rfx-preset") == ""
    page.fill("input[aria-label='kernel of layer 2']", "0")  # not a kernel: nothing changes, and it is said
    assert column(page, "field") == [3, 7, 11]
    assert page.text_content(".rfx-say") == "The kernel of layer 2 must be a whole number from 1 to 64."
    page.click("text=Add 3×3 convolution")
    assert column(page, "field") == [3, 7, 11, 15]
    page.click("button[aria-label='Remove layer 1']")
    assert column(page, "field") == [3, 5, 7]
    page.fill(".rfx-size", "20")
    assert column(page, "n") == [18, 16, 14]


def test_five_pools_and_an_empty_map(page):
    page.select_option(".rfx-preset", "homework: three convolutions")
    for _ in range(4):
        page.click("text=Add 2×2 pool")
    assert column(page, "field")[-1] == 22 and column(page, "n")[-1] == 1
    assert page.text_content(".rfx-sum") == (
        "field = 1 + (3−1) + (3−1) + (3−1) + (2−1) + (2−1)·2 + (2−1)·4 + (2−1)·8 = 22 px"
    )
    page.click("text=Add 2×2 pool")
    assert "has no units" in page.text_content(".rfx-say")


def test_a_resting_pointer_leaves_the_keyboard_alone(page):
    page.select_option(".rfx-preset", "homework: three convolutions")
    if page.evaluate("navigator.maxTouchPoints > 0"):
        return
    page.locator("rect[data-layer='2'][data-unit='5']").click()
    assert page.evaluate("document.activeElement.classList.contains('rfx-svg')")
    for unit in (6, 7, 8):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(50)
        assert page.text_content(".rfx-say").startswith(f"Layer 2, unit {unit}")


def test_the_photograph_shows_what_is_seen(page):
    page.select_option(".rfx-preset", "blind spots: stride > kernel")
    assert page.get_attribute(".rfx-photo", "aria-label") == "The unit depends on 4 × 4 of 24 × 24 pixels"
    assert page.locator(".rfx-photo .unseen").count() == 20 + 20 * 4


def marked(page, layer):
    boxes = page.query_selector_all(f"rect[data-layer='{layer}'].seen")
    return [int(box.get_attribute("data-unit")) for box in boxes]


def test_pointing_at_a_unit_marks_its_field(page):
    page.select_option(".rfx-preset", "homework: with strides")
    box = page.locator("rect[data-layer='2'][data-unit='1']")
    box.tap() if page.evaluate("navigator.maxTouchPoints > 0") else box.hover()
    assert marked(page, 1) == [2, 3, 4] and marked(page, 0) == list(range(4, 11))
    assert "Layer 2, unit 1: field of 7 pixels, from 4 to 10; it depends on 7" in page.text_content(".rfx-say")


def test_blind_spots_are_told(page):
    page.select_option(".rfx-preset", "blind spots: stride > kernel")
    assert re.search(r"field of 6 pixels.*depends on 4 of the 24 pixels, with gaps", page.text_content(".rfx-say"))


def test_keyboard(page):
    page.select_option(".rfx-preset", "homework: three convolutions")
    page.focus(".rfx-svg")
    start = page.text_content(".rfx-say")
    assert start.startswith("Layer 3, unit 12")
    page.keyboard.press("ArrowRight")
    assert page.text_content(".rfx-say").startswith("Layer 3, unit 13")
    page.keyboard.press("ArrowDown")
    assert page.text_content(".rfx-say").startswith("Layer 2, unit 14")
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    assert page.text_content(".rfx-say").startswith("Pixel")


def test_the_link_carries_the_network(page, page_file):
    page.select_option(".rfx-preset", "VGG19-like, level 3")
    page.fill("input[aria-label='kernel of layer 1']", "5")
    before, href = column(page, "field"), page.get_attribute(".rfx-link", "href")
    page.goto("about:blank")
    page.goto(page_file + href)
    assert column(page, "field") == before


@pytest.mark.parametrize("link", ["#net=x3s1d1p1&px=32", "#net=c0s1d1p0&px=32", "#net=c3s0d1p0&px=9", "#something"])
def test_bad_links_are_ignored(page, page_file, link):
    page.goto("about:blank")
    page.goto(page_file + link)
    assert column(page, "field") == [3, 5, 7]


def test_controls_are_labelled(page):
    unlabelled = page.evaluate(
        """() => [...document.querySelectorAll('.rfx input, .rfx select, .rfx button')].filter(
            (e) => !e.getAttribute('aria-label') && !e.closest('label') && !e.textContent.trim()).length"""
    )
    assert unlabelled == 0
    assert page.get_attribute(".rfx-say", "aria-live") == "polite"
    assert "<noscript>" in report.explorer()._repr_html_()


@pytest.fixture(scope="module")
def knob(tmp_path_factory):
    body = report.knob(experiments.recorded(presets.get("study")))._repr_html_()
    return written(body, tmp_path_factory.mktemp("knob") / "knob.html")


@pytest.mark.parametrize("width", [1100, 390])
def test_one_knob_turns_everything(browser, knob, width):
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(knob)
    said = {}
    assert page.text_content(".knx-level-name") == "level 3 (537 px)"  # where the two counts differ
    page.focus(".knx-level")
    page.keyboard.press("Home")
    for _ in range(4):
        said[page.text_content(".knx-level-name")] = page.text_content(".knx-say")
        page.keyboard.press("ArrowRight")
    assert list(said) == ["level 1 (181 px)", "level 2 (359 px)", "level 3 (537 px)", "level 4 (715 px)"]
    assert all(f"field of {px}\u00a0px" in text for px, text in zip((181, 359, 537, 715), said.values(), strict=True))
    assert ["78.6 % of the weights" in text for text in said.values()] == [False, False, True, True]
    assert page.locator(".knx-taps text").all_text_contents().count("dead") == 8
    assert page.locator(".knx-maps rect").count() == 16 and page.locator(".knx-maps .small").count() == 8
    assert "half of the gradient" in page.text_content(".knx-sees + p")
    page.locator(".knx-levels button").nth(2).click()  # a level's result chooses the level
    assert page.text_content(".knx-level-name") == "level 3 (537 px)"
    page.locator(".knx-levels button").nth(3).click()
    page.check("input[value=usable]")
    assert re.search(r"of those that can matter pruned, on 5\d\.\d %", page.text_content(".knx-say"))
    page.locator(".knx-svg").click(position={"x": 40, "y": 100})  # the drawing takes the rate, too
    assert float(page.input_value(".knx-rate")) < 0.1
    page.locator(".knx-levels button").nth(1).click()
    page.select_option(".knx-network", "3")  # it begins at level 2, and the level that was chosen stays
    assert page.text_content(".knx-say").startswith("ResNet50, level 2") and page.is_checked("input[value=rate]")
    page.select_option(".knx-network", "1")
    assert page.text_content(".knx-say").startswith("ResNet50, level 2") and page.is_checked("input[value=usable]")
    page.select_option(".knx-network", "3")  # nothing is dead there: one count, and the rings stay
    assert page.is_disabled("input[value=usable]") and page.locator(".knx-svg .ring").count() == 6
    assert problems == [] and page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def test_the_live_figure_draws_the_recorded_means():
    runs = experiments.recorded(presets.get("study").select(architectures="vgg19", levels=3))
    (network,) = [each for each in report.knob_networks(runs) if each["px"] == 32]
    (level,) = network["levels"]
    mean = sum(run.summary["test_accuracy"] for run in runs if run.config.image_size == 32) / 6
    assert level["rate"][0] == [0.0, pytest.approx(mean, abs=0.006)] and level["maps"][-1] == 1
    measured = [run.result("usable_pruning") for run in runs if run.config.image_size == 32]
    at_07 = sum(each["test_accuracy"][each["rates"].index(0.7)] for each in measured) / 6
    assert dict(level["usable"])[0.7] == pytest.approx(at_07, abs=0.006)


def test_a_press_on_a_heading_sorts_the_table(browser, tmp_path):
    rows = [("b", "12"), ("a", "all"), ("d", "–"), ("c", "1,300")]
    cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    table = f"<table class='sortable'><thead><tr><th>Name</th><th>Field</th></tr></thead><tbody>{cells}</tbody></table>"
    script = (Path(__file__).parents[1] / "book" / "_static" / "tables.js").read_text()
    page = browser.new_page()
    page.goto(written(f"{table}<script>{script}</script>", tmp_path / "table.html"))
    names = lambda: "".join(page.locator("td:first-child").all_text_contents())  # noqa: E731
    page.click("text=Field")
    assert names() == "acbd" and page.get_attribute("th:nth-child(2)", "aria-sort") == "descending"
    page.focus("text=Field")
    page.keyboard.press("Enter")
    assert names() == "bcad"
    page.click("text=Name")
    assert names() == "dcba" and page.get_attribute("th:nth-child(2)", "aria-sort") is None
    page.close()
