/* One convolution or max-pool on a small map: what an output cell reads, and what its gradient touches. */
(function (root, x, w, g) {
  "use strict";
  const add = window.rfkitAdd, CELL = 30, $ = (name) => root.querySelector(".stp-" + name);
  const minus = (number) => String(number).replace("-", "−"), factor = (number) => number < 0 ? `(${minus(number)})` : number;
  let at = [0, 0];

  function chosen() {
    const pool = $("kind").value === "pool";
    const [s, p, d] = ["s", "p", "d"].map((name) => Number($(name).value));
    return { pool, k: pool ? 2 : w.length, s, p: pool ? 0 : p, d: pool ? 1 : d, backward: $("pass").value === "backward" };
  }

  /* The taps of an output cell: {a, b} in the image, {u, v} in the kernel; those on the padding have no value. */
  function taps(layer, i, j) {
    const found = [];
    for (let u = 0; u < layer.k; u++) for (let v = 0; v < layer.k; v++) {
      const a = i * layer.s - layer.p + u * layer.d, b = j * layer.s - layer.p + v * layer.d;
      found.push({ a, b, u, v, value: (x[a] || [])[b] });
    }
    return found;
  }

  /* The first of the largest, which alone gets a max-pool's gradient. */
  function largest(read) { return read.reduce((best, tap) => tap.value > best.value ? tap : best); }

  function forward(layer) {
    const side = Math.floor((x.length + 2 * layer.p - layer.d * (layer.k - 1) - 1) / layer.s) + 1;
    return Array.from({ length: side }, (_, i) => Array.from({ length: side }, (_, j) => {
      const read = taps(layer, i, j);
      return layer.pool ? largest(read).value : read.reduce((sum, tap) => sum + (tap.value || 0) * w[tap.u][tap.v], 0);
    }));
  }

  /* What an output cell gives back to each pixel it read. */
  function given(layer, i, j) {
    const read = taps(layer, i, j).filter((tap) => tap.value !== undefined);
    return layer.pool ? [{ ...largest(read), share: g[i][j] }] : read.map((tap) => ({ ...tap, share: g[i][j] * w[tap.u][tap.v] }));
  }

  function backward(layer, side) {
    const dx = x.map((row) => row.map(() => 0));
    for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) for (const { a, b, share } of given(layer, i, j)) dx[a][b] += share;
    return dx;
  }

  function grid(svg, rows, border, mark, label) {
    const side = (rows.length + 2 * border) * CELL + 2;
    Object.entries({ width: side, height: side, viewBox: `-1 -1 ${side} ${side}`, "aria-label": label }).forEach(([name, value]) => svg.setAttribute(name, value));
    svg.replaceChildren();
    for (let i = -border; i < rows.length + border; i++) for (let j = -border; j < rows.length + border; j++) {
      const value = (rows[i] || [])[j], left = (j + border) * CELL, top = (i + border) * CELL;
      const box = add(svg, "rect", { x: left, y: top, width: CELL, height: CELL, class: `${value === undefined ? "padding " : ""}${mark(i, j)}` });
      Object.assign(box.dataset, { i, j });
      add(svg, "text", { x: left + CELL / 2, y: top + CELL / 2 }, value === undefined ? "0" : minus(value));
    }
  }

  function draw() {
    const layer = chosen(), y = forward(layer), [i, j] = at = at.map((place) => Math.max(0, Math.min(y.length - 1, place)));
    const read = taps(layer, i, j), touched = layer.backward ? given(layer, i, j) : read, name = `[${i}, ${j}]`;
    const marked = (a, b) => touched.some((tap) => tap.a === a && tap.b === b) ? "read" : "";
    for (const [control, none] of [["p", "0"], ["d", "1"]]) {
      $(control).disabled = layer.pool;
      if (layer.pool) $(control).value = none;
    }
    $("w").parentElement.hidden = layer.pool;
    $("name-x").textContent = layer.backward ? "gradient dx: of all outputs, above it of this one" : layer.p ? "input x, padded with zeros" : "input x";
    $("name-y").textContent = layer.backward ? "upstream gradient g" : "output y";
    grid($("x"), layer.backward ? backward(layer, y.length) : x, layer.p, marked, `${$("name-x").textContent}, ${x.length} by ${x.length}`);
    if (layer.backward) for (const text of $("x").querySelectorAll("rect.padding + text")) text.textContent = "";
    if (layer.backward) for (const { a, b, share } of touched) // what this output adds, above the sum of all
      add($("x"), "text", { class: "share", x: (b + layer.p + .5) * CELL, y: (a + layer.p) * CELL + 7 }, `${share < 0 ? "" : "+"}${minus(share)}`);
    grid($("w"), w, 0, () => "", "kernel, 3 by 3");
    const out = layer.backward ? g.slice(0, y.length).map((row) => row.slice(0, y.length)) : y;
    grid($("y"), out, 0, (a, b) => a === i && b === j ? "here" : "", `${$("name-y").textContent}, ${y.length} by ${y.length}`);
    $("say").textContent = layer.backward ? spoken(layer, name, g[i][j], touched) : layer.pool ?
      `y${name} is the largest of the ${read.length} values it reads: ${minus(y[i][j])}.` :
      `y${name} = ${read.map((tap) => `${factor(w[tap.u][tap.v])}·${factor(tap.value || 0)}`).join(" + ")} = ${minus(y[i][j])}`;
  }

  function spoken(layer, name, upstream, touched) {
    if (layer.pool) return `g${name} = ${minus(upstream)} goes whole to x[${touched[0].a}, ${touched[0].b}], the value that was passed on.`;
    const cut = layer.k ** 2 - touched.length;
    return `g${name} = ${minus(upstream)} gives ${minus(upstream)} times the kernel to the ${touched.length} pixels that y${name} read: ` +
      touched.map((tap) => minus(tap.share)).join(", ") + (cut ? `; ${cut} more fall on the padding and are dropped.` : ".");
  }

  for (const name of ["kind", "s", "p", "d", "pass"]) $(name).onchange = draw;
  for (const kind of ["pointermove", "click"]) $("y").addEventListener(kind, (event) => {
    if (kind === "click") $("y").focus({ preventScroll: true });
    const { i, j } = event.target.dataset ?? {};
    if (i === undefined || (Number(i) === at[0] && Number(j) === at[1])) return;
    at = [Number(i), Number(j)];
    draw();
  });
  $("y").addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    at = [at[0] + move[0], at[1] + move[1]];
    draw();
  });
  draw();
})(document.getElementById("__ID__"), __X__, __W__, __G__);
