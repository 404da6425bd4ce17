/* Accuracy against pruning rate, one curve a level, with a slider; beside it which pixels reach the last map. */
(function (root, networks, patterns) {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg", BOX = { left: 40, right: 628, top: 26, bottom: 274 };
  const $ = (name) => root.querySelector(".prx-" + name);
  const x = (rate) => BOX.left + (BOX.right - BOX.left) * rate;
  const y = (accuracy) => BOX.bottom - (BOX.bottom - BOX.top) * accuracy / 100;

  function add(parent, tag, attributes, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  /* Accuracy at a rate, straight between the measured ones; none beyond them. */
  function at(xs, ys, rate) {
    for (let i = 0; i < xs.length; i++) {
      if (Math.abs(xs[i] - rate) < 1e-9) return ys[i];
      if (i && xs[i - 1] < rate && rate < xs[i]) return ys[i - 1] + (ys[i] - ys[i - 1]) * (rate - xs[i - 1]) / (xs[i] - xs[i - 1]);
    }
    return null;
  }

  function marker(svg, shape, cx, cy, color) {
    const r = 4.5, points = {
      s: [[-r, -r], [r, -r], [r, r], [-r, r]], "^": [[-r, r], [0, -r], [r, r]], D: [[0, -r - 1], [r + 1, 0], [0, r + 1], [-r - 1, 0]],
    }[shape];
    if (!points) return add(svg, "circle", { cx, cy, r, fill: color });
    return add(svg, "polygon", { points: points.map(([a, b]) => `${cx + a},${cy + b}`).join(" "), fill: color });
  }

  function draw() {
    const network = networks[$("network").value], rate = Number($("rate").value), svg = $("svg");
    const axis = root.querySelector("input[type=radio]:checked").value;
    $("value").textContent = rate.toFixed(2);
    BOX.right = Math.max(320, Math.min(640, svg.clientWidth || 640)) - 12; // letters keep their size on a phone
    svg.setAttribute("viewBox", `0 0 ${BOX.right + 12} 320`);
    svg.replaceChildren();
    for (let i = 0; i <= 5; i++) {
      add(svg, "line", { x1: BOX.left, x2: BOX.right, y1: y(20 * i), y2: y(20 * i), class: "grid" });
      add(svg, "text", { x: BOX.left - 6, y: y(20 * i) + 4, "text-anchor": "end" }, 20 * i);
      add(svg, "text", { x: x(i / 5), y: BOX.bottom + 18, "text-anchor": "middle" }, (i / 5).toFixed(1));
    }
    add(svg, "text", { x: (BOX.left + BOX.right) / 2, y: BOX.bottom + 38, "text-anchor": "middle" },
      axis === "rate" ? "share of all prunable weights pruned" : "share of usable weights pruned");
    add(svg, "text", { x: 0, y: 12 }, "test accuracy (%)");
    add(svg, "line", { x1: BOX.left, x2: BOX.right, y1: y(network.chance), y2: y(network.chance), class: "chance" });
    add(svg, "line", { x1: x(rate), x2: x(rate), y1: BOX.top, y2: BOX.bottom, class: "now" });
    const said = [], list = $("levels");
    list.replaceChildren();
    for (const level of network.levels) {
      const xs = level[axis], points = xs.map((value, i) => [x(value), y(level.accuracy[i])]);
      add(svg, "polyline", { points: points.map((p) => p.join(",")).join(" "), class: "curve", stroke: level.color, "stroke-dasharray": level.dash });
      points.forEach(([px, py]) => marker(svg, level.marker, px, py, level.color));
      const value = at(xs, level.accuracy, rate), text = value === null ? "not measured" : value.toFixed(1) + " %";
      said.push(`${level.name} ${text}`);
      const item = document.createElement("li"), image = patterns[network.architecture]?.[level.level];
      item.style.borderColor = level.color;
      item.append(level.name, Object.assign(document.createElement("strong"), { textContent: text }));
      if (image) item.append(Object.assign(document.createElement("img"), { src: image, alt: `Pixels that reach the last map of ${network.name}, ${level.name}`, width: 64, height: 64 }));
      list.append(item);
    }
    $("say").textContent = `${network.name}, ${axis === "rate" ? "pruning rate" : "share of usable weights"} ${rate.toFixed(2)}: ${said.join("; ")}. Dotted line: chance, ${network.chance} %.`;
  }

  /* The drawing itself takes the rate from where it is pressed. */
  function press(event) {
    const box = $("svg").getBoundingClientRect(), place = (event.clientX - box.left) / box.width * (BOX.right + 12);
    $("rate").value = Math.min(0.98, Math.max(0, (place - BOX.left) / (BOX.right - BOX.left)));
    draw();
  }

  networks.forEach((network, i) => $("network").append(new Option(`${network.name}, ${network.data}`, i)));
  for (const input of root.querySelectorAll("input, select")) input.addEventListener("input", draw);
  $("svg").addEventListener("pointerdown", press);
  $("svg").addEventListener("pointermove", (event) => event.buttons && press(event));
  window.addEventListener("resize", draw);
  draw();
})(document.getElementById("__ID__"), __NETWORKS__, __PATTERNS__);
