/* One knob, the level pool: what the last unit uses, how the maps shrink, which weights die, and what pruning does. */
(function (root, networks, photo) {
  "use strict";
  const add = window.rfkitAdd, BOX = { left: 34, right: 628, top: 8, bottom: 236 };
  const $ = (name) => root.querySelector(".knx-" + name);
  let top = 100; // of the accuracy's axis, in %
  let wanted = 3, counted = "rate"; // the level and the count that were chosen, where a network has them
  const x = (rate) => BOX.left + (BOX.right - BOX.left) * rate;
  const y = (accuracy) => BOX.bottom - (BOX.bottom - BOX.top) * accuracy / top;

  /* Accuracy at a rate, straight between the measured ones; none beyond them. */
  function at(curve, rate) {
    for (let i = 0; i < curve.length; i++) {
      const [right, ends] = curve[i];
      if (Math.abs(right - rate) < 1e-9) return { value: ends, between: "" };
      if (i && curve[i - 1][0] < rate && rate < right) {
        const [left, starts] = curve[i - 1];
        return { value: starts + (ends - starts) * (rate - left) / (right - left), between: `, between the measured ${percent(left)} and ${percent(right)}` };
      }
    }
    return null;
  }

  function percent(share) { return `${Math.round(100 * share)} %`; }

  function marker(svg, shape, cx, cy, color) {
    const r = 4, points = {
      s: [[-r, -r], [r, -r], [r, r], [-r, r]], "^": [[-r, r], [0, -r], [r, r]], D: [[0, -r - 1], [r + 1, 0], [0, r + 1], [-r - 1, 0]],
    }[shape];
    if (!points) return add(svg, "circle", { cx, cy, r, fill: color });
    return add(svg, "polygon", { points: points.map(([a, b]) => `${cx + a},${cy + b}`).join(" "), fill: color });
  }

  function fresh(name, label) {
    const svg = $(name);
    svg.replaceChildren();
    svg.setAttribute("aria-label", label);
    return svg;
  }

  function note(svg, text) { svg.parentElement.querySelector("p").textContent = text; }

  /* Left the image, dark where it counts for little; right the field around it, to scale. */
  function drawField(network, level) {
    const used = level.half ? `; half of its gradient comes from the middle ${level.half} × ${level.half} pixels` : "";
    const svg = fresh("sees", `A unit of the last map has a field of ${level.field} pixels, the image has ${network.px}${used}`);
    if (photo) add(svg, "image", { href: photo, x: 0, y: 0, width: 144, height: 144, preserveAspectRatio: "none" });
    if (level.used) add(svg, "image", { href: level.used, x: 0, y: 0, width: 144, height: 144, preserveAspectRatio: "none" });
    if (level.half) {
      const side = 144 * level.half / network.px;
      add(svg, "rect", { class: "field", x: 72 - side / 2, y: 72 - side / 2, width: side, height: side, "stroke-dasharray": "4 3" });
    }
    svg.previousElementSibling.textContent = "What a unit of the last map sees" + (level.half ? ", and uses" : "");
    const left = level.half ? `Left, the image: bright where a pixel counts. The dashed square of ${level.half}\u00a0px holds half of the gradient. ` : "Left, the image. ";
    note(svg, left + (level.field ? `Right, the image inside the field of ${level.field}\u00a0px.` : ""));
    if (!level.field) return;
    const widest = Math.max(network.px, ...network.levels.map((each) => each.field || 0)), scale = 144 / widest;
    const side = level.field * scale, image = network.px * scale;
    add(svg, "rect", { class: "field", x: 228 - side / 2, y: 72 - side / 2, width: side, height: side });
    if (photo) add(svg, "image", { href: photo, x: 228 - image / 2, y: 72 - image / 2, width: image, height: image });
  }

  /* The maps in rows as wide as the drawing: their places, and the height of all. */
  function laidOut(sides, scale) {
    const placed = [];
    let left = 0, upper = 0, tallest = 0;
    for (const side of sides) {
      const size = Math.max(2, side * scale);
      if (left + size > 300) { left = 0; upper += tallest + 6; tallest = 0; }
      placed.push({ side, size, left, upper });
      left += size + 3;
      tallest = Math.max(tallest, size);
    }
    return { placed, height: upper + tallest };
  }

  function drawMaps(network, level) {
    const last = level.maps[level.maps.length - 1], scale = network.px > 40 ? 1.1 : 2.1;
    const svg = fresh("maps", `Sides of the maps, layer by layer: ${level.maps.join(", ")}`);
    const tallest = Math.max(...network.levels.map((each) => laidOut(each.maps, scale).height));
    svg.setAttribute("viewBox", `0 0 300 ${tallest + 2}`);
    for (const { side, size, left, upper } of laidOut(level.maps, scale).placed)
      add(svg, "rect", { class: side === 1 ? "map small" : "map", x: left, y: upper, width: size, height: size });
    const small = level.maps.filter((side) => side === 1).length;
    note(svg, `The last map is ${last}×${last}` + (small ? `. Orange: ${small} of ${level.maps.length} are a single pixel, which only the middle of a 3×3 kernel ever meets.` : "."));
  }

  function drawTaps(level) {
    $("taps").parentElement.hidden = !level.taps;
    if (!level.taps) return;
    const words = level.taps.map((row) => row.map((tap) => `${Math.round(100 * tap.kept)} %`).join(", ")).join("; ");
    const svg = fresh("taps", `What training has left of each weight, beside the middle one: ${words}`);
    const columns = level.taps[0].length, wide = Math.max(300, 50 * columns), left = (wide - 50 * columns) / 2;
    svg.setAttribute("viewBox", `0 0 ${wide} ${49 * level.taps.length + 1}`);
    level.taps.forEach((row, i) => row.forEach((tap, j) => {
      add(svg, "rect", { class: "tap", x: left + 50 * j, y: 49 * i, width: 46, height: 45, "fill-opacity": tap.seen > 0 ? Math.min(1, tap.kept) * .55 : 0 });
      add(svg, "text", { x: left + 23 + 50 * j, y: 49 * i + 28, "text-anchor": "middle" }, tap.seen > 0 ? tap.kept.toFixed(2) : "dead");
    }));
    const corner = Math.round(100 * level.taps[0][0].seen);
    note(svg, "How much of each weight training has kept, relative to the middle one. " + (corner < 1 ?
      "Dead ones only ever multiply the zeros around the map." : `At ${100 - corner} % of the positions a corner multiplies the zeros around the map.`));
  }

  function draw() {
    const network = networks[$("network").value], rate = Number($("rate").value), svg = $("svg");
    const alike = network.levels.every((level) => !level.dead); // then both counts are one
    root.querySelector("fieldset").disabled = alike;
    const axis = alike ? "rate" : counted;
    root.querySelector(`input[value=${axis}]`).checked = true;
    root.querySelector("legend").textContent = alike ? "as a share of (no weight is dead here)" : "as a share of";
    const shown = network.levels.flatMap((level) => [...level.rate, ...level.usable, ...level.paper]); // one scale for both counts
    top = 20 * Math.ceil(Math.max(...shown.map((point) => point[1])) / 20);
    $("level").max = network.levels.length - 1;
    const here = network.levels.find((level) => level.level >= wanted) || network.levels[network.levels.length - 1];
    $("level").value = network.levels.indexOf(here);
    $("rate").setAttribute("aria-valuetext", percent(rate));
    $("level-name").textContent = here.name;
    $("level").setAttribute("aria-valuetext", here.name);
    $("value").textContent = percent(rate);
    drawField(network, here);
    drawMaps(network, here);
    drawTaps(here);
    BOX.right = Math.max(300, Math.min(640, svg.clientWidth || 640)) - 12; // letters keep their size on a phone
    svg.setAttribute("viewBox", `0 0 ${BOX.right + 12} 280`);
    svg.replaceChildren();
    for (let i = 0; i <= 5; i++) {
      if (20 * i <= top) {
        add(svg, "line", { x1: BOX.left, x2: BOX.right, y1: y(20 * i), y2: y(20 * i), class: "grid" });
        add(svg, "text", { x: BOX.left - 6, y: y(20 * i) + 4, "text-anchor": "end" }, 20 * i);
      }
      add(svg, "text", { x: x(i / 5), y: BOX.bottom + 18, "text-anchor": "middle" }, (i / 5).toFixed(1));
    }
    add(svg, "text", { x: (BOX.left + BOX.right) / 2, y: BOX.bottom + 38, "text-anchor": "middle" },
      axis === "rate" ? "share of all prunable weights pruned" : "share pruned of the weights that can matter");
    add(svg, "line", { x1: BOX.left, x2: BOX.right, y1: y(network.chance), y2: y(network.chance), class: "chance" });
    add(svg, "text", { x: BOX.left + 4, y: y(network.chance) - 4 }, "guessing");
    add(svg, "line", { x1: x(rate), x2: x(rate), y1: BOX.top, y2: BOX.bottom, class: "now" });
    const list = $("levels");
    list.replaceChildren();
    let now = null;
    network.levels.forEach((level, i) => {
      const curve = level[axis], points = curve.map(([where, value]) => [x(where), y(value)]), chosen = level === here;
      add(svg, "polyline", { points: points.map((p) => p.join(",")).join(" "), class: chosen ? "curve here" : "curve", stroke: level.color, "stroke-dasharray": level.dash });
      points.forEach(([px, py]) => marker(svg, level.marker, px, py, level.color));
      if (chosen && axis === "rate") for (const [where, value] of level.paper)
        add(svg, "circle", { cx: x(where), cy: y(value), r: 6, class: "ring", stroke: level.color });
      const found = at(curve, rate), text = found ? found.value.toFixed(1) + " %" : "not measured";
      if (chosen) now = text + (found ? found.between : "");
      const button = Object.assign(document.createElement("button"), { type: "button" }), item = document.createElement("li");
      button.style.borderColor = level.color;
      const lost = found ? curve[0][1] - found.value : 0; // of the dense accuracy
      button.append(level.name, Object.assign(document.createElement("strong"), { textContent: text }));
      if (found) button.append(lost >= 0.05 ? `${lost.toFixed(1)} points lost` : "nothing lost");
      button.setAttribute("aria-pressed", chosen);
      button.addEventListener("click", () => { wanted = level.level; draw(); list.children[i].firstChild.focus(); });
      item.append(button);
      list.append(item);
    });
    const field = here.field ? `A unit of the last map has a field of ${here.field}\u00a0px on an image of ${network.px}\u00a0px. ` : "";
    const dead = here.dead ? `${(100 * here.dead).toFixed(1)} % of the weights can never matter. ` : "Every weight can matter. ";
    const first = network.levels[0].level;
    $("say").textContent = `${network.name}, ${here.name}. ${field}${dead}The network is right on ${here.rate[0][1].toFixed(1)} % of the test images; ` +
      `with ${percent(rate)} of ${axis === "rate" ? "all its weights" : "those that can matter"} pruned, on ${now}. Guessing is right on ${network.chance} %. ` +
      (here.seeds > 1 ? `Mean of ${here.seeds} seeds.` : "A single seed.") +
      (!here.paper.length ? "" : axis === "rate" ? " Rings: the paper's network at this level." : " The paper counts all weights, so it has no rings here.") +
      (first > 1 ? ` Not trained here: level ${first === 2 ? "1" : "1 to " + (first - 1)}.` : "");
  }

  /* The drawing itself takes the rate from where it is pressed. */
  function press(event) {
    const box = $("svg").getBoundingClientRect(), place = (event.clientX - box.left) / box.width * (BOX.right + 12);
    $("rate").value = Math.min(0.98, Math.max(0, (place - BOX.left) / (BOX.right - BOX.left)));
    draw();
  }

  networks.forEach((network, i) => $("network").append(new Option(`${network.name}, ${network.data}`, i)));
  for (const input of root.querySelectorAll("input, select")) input.addEventListener("input", () => {
    if (input === $("level")) wanted = networks[$("network").value].levels[input.value].level;
    if (input.type === "radio") counted = input.value;
    draw();
  });
  $("svg").addEventListener("pointerdown", press);
  $("svg").addEventListener("pointermove", (event) => event.buttons && press(event));
  window.addEventListener("resize", draw);
  draw();
})(document.getElementById("__ID__"), __NETWORKS__, __PHOTO__);
