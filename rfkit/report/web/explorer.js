/* Receptive fields of a chain of layers. A layer is {kind, k, s, d, p}; one axis stands for both. */
(function (root, presets, photo) {
  "use strict";
  const add = window.rfkitAdd, FIELDS = [["k", "kernel"], ["s", "stride"], ["d", "dilation"], ["p", "padding"]];
  const $ = (name) => root.querySelector(".rfx-" + name);
  let layers = [], size = 32, at = { layer: 0, unit: 0 };

  /* For each map, the image first: number of units, field, step and first pixel of unit 0. */
  function geometry() {
    const maps = [{ n: size, field: 1, step: 1, first: 0 }];
    for (const { k, s, d, p } of layers) {
      const below = maps[maps.length - 1], reach = d * (k - 1) + 1;
      maps.push({
        n: below.n && Math.max(0, Math.floor((below.n + 2 * p - reach) / s) + 1),
        field: below.field + (k - 1) * d * below.step,
        step: below.step * s,
        first: below.first - p * below.step,
      });
    }
    return maps;
  }

  /* Units of every map below that one unit depends on: taps in the padding read nothing. */
  function seen(maps, layer, unit) {
    const marks = maps.map(() => new Set());
    marks[layer].add(unit);
    for (let i = layer; i > 0; i--) {
      const { k, s, d, p } = layers[i - 1];
      for (const j of marks[i]) for (let t = 0; t < k; t++) {
        const read = j * s - p + d * t;
        if (read >= 0 && read < maps[i - 1].n) marks[i - 1].add(read);
      }
    }
    return marks;
  }

  function draw() {
    const svg = $("svg"), maps = geometry(), left = 58, width = Math.max(320, Math.min(760, svg.clientWidth || 640)), row = 22, scale = (width - left - 8) / size;
    at.layer = Math.min(at.layer, maps.length - 1);
    while (at.layer > 0 && maps[at.layer].n === 0) at.layer--;
    at.unit = Math.max(0, Math.min(at.unit, maps[at.layer].n - 1));
    const marks = seen(maps, at.layer, at.unit), here = maps[at.layer], height = maps.length * row + 14;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    maps.forEach((map, i) => {
      const y = height - (i + 1) * row, label = add(svg, "text", { x: 0, y: y + 13 });
      label.textContent = i ? `layer ${i}` : "image";
      const edge = Math.max(2, Math.min(row - 8, scale * Math.min(map.step, 3) - 1));
      for (let u = 0; u < map.n; u++) {
        const middle = map.first + u * map.step + (map.field - 1) / 2;
        const box = add(svg, "rect", {
          x: left + (middle + 0.5) * scale - edge / 2, y: y + 2, width: edge, height: row - 8, rx: 2,
          class: i === at.layer && u === at.unit ? "here" : marks[i].has(u) ? "seen" : "",
        });
        box.dataset.layer = i; box.dataset.unit = u;
      }
    });
    const first = here.first + at.unit * here.step, last = first + here.field - 1;
    const from = Math.max(first, -0.5), to = Math.min(last, size - 0.5);
    add(svg, "rect", { class: "field", x: left + from * scale, y: height - row - 1, rx: 3,
      width: Math.max(2, (Math.min(to + 1, size) - from) * scale), height: row - 2 });
    const pixels = [...marks[0]], outside = first < 0 || last >= size;
    $("say").textContent = at.layer === 0 ? `Pixel ${at.unit} of the image.` :
      `Layer ${at.layer}, unit ${at.unit}: field of ${here.field} pixels, from ${first} to ${last}` +
      `${outside ? ", which reaches beyond the image" : ""}; it depends on ${pixels.length} of the ${size} pixels` +
      `${pixels.length < Math.min(last, size - 1) - Math.max(first, 0) + 1 ? ", with gaps" : ""}.`;
    sum(here.field);
    look(first, here.field, marks[0]);
    svg.setAttribute("aria-label", `Units of ${maps.length - 1} layers above an image of ${size} pixels`);
    root.querySelectorAll("tbody tr").forEach((tr, i) => {
      const map = maps[i + 1];
      tr.classList.toggle("here", i + 1 === at.layer);
      tr.querySelector(".n").textContent = map.n;
      tr.querySelector(".field").textContent = map.field;
      tr.querySelector(".step").textContent = map.step;
    });
    $("link").href = "#" + link();
  }

  /* The formula, term by term; those of the layers above are pale. */
  function sum(field) {
    const terms = ['<span class="counted">1</span>'];
    let step = 1;
    layers.forEach(({ k, s, d }, i) => {
      const kind = i + 1 > at.layer ? "" : i + 1 === at.layer ? "counted last" : "counted";
      const taps = d === 1 ? `(${k}−1)` : `(${k}−1)·${d}`;
      terms.push(`<span class="${kind}"> + ${taps}${step === 1 ? "" : "·" + step}</span>`);
      step *= s;
    });
    $("sum").innerHTML = `field = ${terms.join("")} = <b>${field}</b> px`;
  }

  /* The unit on the diagonal, in two dimensions: dark is what it does not depend on. */
  function look(first, field, pixels) {
    const svg = $("photo"), one = 160 / size;
    svg.replaceChildren();
    svg.setAttribute("aria-label", `The unit depends on ${pixels.size} × ${pixels.size} of ${size} × ${size} pixels`);
    add(svg, "image", { href: photo, x: 0, y: 0, width: 160, height: 160 });
    for (let i = 0; i < size; i++) {
      if (pixels.has(i)) continue;
      add(svg, "rect", { class: "unseen", x: 0, y: i * one, width: 160, height: one });
      for (let j = 0; j < size; j++) if (pixels.has(j)) add(svg, "rect", { class: "unseen", x: i * one, y: j * one, width: one, height: one });
    }
    add(svg, "rect", { class: "field", x: first * one, y: first * one, width: field * one, height: field * one });
  }

  function choose(layer, unit) { at = { layer, unit }; draw(); }

  function table() {
    const body = root.querySelector("tbody");
    body.replaceChildren();
    layers.forEach((layer, i) => {
      const tr = document.createElement("tr");
      tr.innerHTML = `<td>${i + 1}</td><td class="field"></td><td class="n"></td>` + "<td></td>".repeat(5) + '<td class="step"></td><td></td>';
      const kind = document.createElement("select");
      for (const name of ["conv", "pool"]) kind.add(new Option(name, name, false, layer.kind === name));
      kind.setAttribute("aria-label", `Kind of layer ${i + 1}`);
      kind.onchange = () => { layer.kind = kind.value; custom(); };
      tr.cells[3].append(kind);
      FIELDS.forEach(([key, name], column) => {
        const input = document.createElement("input"), least = key === "p" ? 0 : 1;
        Object.assign(input, { type: "number", min: least, max: 64, value: layer[key], inputMode: "numeric" });
        input.setAttribute("aria-label", `${name} of layer ${i + 1}`);
        input.oninput = () => {
          const value = Number(input.value), fits = input.value !== "" && Number.isInteger(value) && value >= least && value <= 64;
          input.setCustomValidity(fits ? "" : "x");
          if (fits) { layer[key] = value; custom(); }
          else $("say").textContent = `The ${name} of layer ${i + 1} must be a whole number from ${least} to 64.`;
        };
        tr.cells[4 + column].append(input);
      });
      const remove = document.createElement("button");
      remove.type = "button"; remove.textContent = "×"; remove.setAttribute("aria-label", `Remove layer ${i + 1}`);
      remove.onclick = () => { layers.splice(i, 1); table(); custom(); $("add").focus(); };
      tr.cells[9].append(remove);
      tr.addEventListener("focusin", () => { at.layer = i + 1; middle(); });
      body.append(tr);
    });
  }

  function middle() { at.unit = Math.floor(Math.max(0, geometry()[at.layer].n - 1) / 2); draw(); }

  function custom() { $("preset").value = ""; draw(); }

  function link() {
    const word = ({ kind, k, s, d, p }) => `${kind[0]}${k}s${s}d${d}p${p}`;
    return `net=${layers.map(word).join("-")}&px=${size}`;
  }

  function read(hash) {
    const found = /net=([a-z0-9-]*)&px=(\d+)/.exec(hash || "");
    if (!found) return false;
    const words = found[1].split("-").filter(Boolean).map((w) => /^([cp])(\d+)s(\d+)d(\d+)p(\d+)$/.exec(w));
    if (words.length > 60 || words.some((w) => !w || Number(w[2]) < 1 || Number(w[3]) < 1 || Number(w[4]) < 1 || Math.max(...w.slice(2)) > 64)) return false;
    layers = words.map(([, kind, k, s, d, p]) => ({ kind: kind === "c" ? "conv" : "pool", k: +k, s: +s, d: +d, p: +p }));
    size = Math.min(128, Math.max(4, Number(found[2])));
    return true;
  }

  function load() {
    $("size").value = size;
    table();
    at.layer = layers.length;
    middle();
  }

  $("preset").add(new Option("your own", ""));
  for (const name of Object.keys(presets)) $("preset").add(new Option(name, name));
  $("preset").onchange = () => {
    if ($("preset").value && read(presets[$("preset").value])) load();
  };
  $("size").oninput = () => {
    const value = Math.floor(Number($("size").value));
    const fits = value >= 4 && value <= 128;
    $("size").setCustomValidity(fits ? "" : "x");
    if (fits) { size = value; middle(); } else $("say").textContent = "The image must have 4 to 128 pixels.";
  };
  function append(layer) {
    layers.push(layer);
    table();
    at.layer = layers.length;
    custom();
    middle();
    if (geometry()[layers.length].n === 0) $("say").textContent = `Layer ${layers.length} has no units: the map below is smaller than its kernel. Enlarge the image, or remove the layer.`;
  }

  $("add").onclick = () => append({ kind: "conv", k: 3, s: 1, d: 1, p: 0 });
  $("pool").onclick = () => append({ kind: "pool", k: 2, s: 2, d: 1, p: 0 });
  /* A redraw under a resting pointer must not choose for it: only movement does. */
  for (const kind of ["pointermove", "click"]) $("svg").addEventListener(kind, (event) => {
    if (kind === "click") $("svg").focus({ preventScroll: true });
    const { layer, unit } = event.target.dataset ?? {};
    if (layer === undefined || (kind === "pointermove" && event.pointerType !== "mouse")) return;
    if (Number(layer) !== at.layer || Number(unit) !== at.unit) choose(Number(layer), Number(unit));
  });
  $("svg").addEventListener("keydown", (event) => {
    const move = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const maps = geometry(), layer = Math.max(0, Math.min(maps.length - 1, at.layer + move[0]));
    if (maps[layer].n === 0) return;
    /* a change of layer keeps the place: the nearest unit of the other map */
    const place = maps[at.layer].first + at.unit * maps[at.layer].step + (maps[at.layer].field - 1) / 2;
    const near = Math.round((place - maps[layer].first - (maps[layer].field - 1) / 2) / maps[layer].step);
    choose(layer, move[0] ? near : at.unit + move[1]);
  });
  window.addEventListener("hashchange", () => { if (read(location.hash)) { $("preset").value = ""; load(); } });
  window.addEventListener("resize", draw);
  const start = Object.keys(presets)[0];
  if (!read(location.hash)) { read(presets[start]); $("preset").value = start; }
  load();
})(document.getElementById("__ID__"), __PRESETS__, __PHOTO__);
